"""Backbones by name: which CLIP, where its weights come from, where the adapters sit, and what of it learns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Preprocessing = Literal["local", "image", "clip", "official"]
"""How pixels become what the towers are fed, see `model.preprocess`."""


class BackboneError(RuntimeError):
    """A backbone's weights or vocabulary cannot be had; the message names what is missing and the command for it."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A weights file on the Hugging Face hub."""

    repo: str
    file: str
    vocabulary: str | None = None
    """Repository of the WordPiece vocabulary (`vocab.txt`), for a text tower that is a BERT."""


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """All that determines a MedCLIPSeg before its first training step."""

    name: str
    title: str
    licence: str
    """Of the weights."""
    source: Source | None = None
    """None: the weights ship with this package."""
    clip: Mapping[str, Any]
    """Keyword arguments of open_clip's model; both towers have the same number of layers."""
    text: Literal["clip", "bert"] = "clip"
    """`clip`: causal transformer, byte pairs, read at the end token; `bert`: WordPiece, read at [CLS]."""
    readout: Literal["tokens", "values"] = "tokens"
    """Patch features: the last block's tokens, or (MaskCLIP, arXiv 2112.01071) only its attention's values."""
    fusion: tuple[int, ...]
    """Zero-based blocks before which an adapter runs."""
    adapter_dim: int
    upscales: int
    """Doublings of the patch grid before the mask is read off."""
    trains: Literal["all", "adapters"]
    """`adapters` leaves both towers as they are; `all` trains them too."""
    preprocessing: Preprocessing
    contrast_text: Literal["unit", "raw"]
    """Text vectors in the contrastive loss: L2-normalised, or as they come (published)."""
    chunk: int
    """Samples that are computed together. Part of a result: matrix products of another shape round otherwise."""
    beta: float = 2.35
    gate_init: float = 0.0
    temperature: float = 0.2
    """Of the contrastive loss; the mask's logits have none."""
    learning_rates: tuple[float, float] = (3e-4, 1e-4)
    """First (after the warm-up) and last."""
    warmup: float = 0.0
    """Share of the steps in which the learning rate rises from zero."""
    text_gain: float = 1.0
    """Factor on the text attention's first weights. Above 1, prompts that differ in one word come out of
    random weights clearly apart (cosine 0.6, not 0.94); else labels share one mask for hundreds of steps."""
    frozen: tuple[str, ...] = field(default=())
    """Parameters, by name within the CLIP, that stay even where `trains` is `all`."""

    @property
    def image_size(self) -> int:
        """Side in pixels of the square that the model sees."""
        return int(self.clip["vision_cfg"]["image_size"])

    @property
    def context(self) -> int:
        """Tokens of a prompt, padding included."""
        return int(self.clip["text_cfg"]["context_length"])

    @property
    def vocabulary(self) -> int:
        """Ids that the tokenizer may give."""
        return int(self.clip["text_cfg"].get("vocab_size", 49408))


PUBLISHED: Mapping[str, Any] = MappingProxyType(
    {
        "fusion": tuple(range(1, 11)),
        "adapter_dim": 256,
        "upscales": 2,
        "trains": "adapters",
        "preprocessing": "clip",
        "contrast_text": "raw",
        "chunk": 5,
    }
)
"""What the four published variants share (arXiv 2602.20423 and its code): adapters before blocks 1 to 10."""


def openai_clip(patch_size: int) -> dict[str, Any]:
    """OpenAI's CLIP with a ViT-B image tower."""
    return {
        "embed_dim": 512,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": patch_size},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
    }


BERT = {
    "context_length": 256,
    "vocab_size": 30522,
    "hf_proj_type": "mlp",
    "hf_pooler_type": "cls_last_hidden_state_pooler",
    "hf_model_pretrained": False,
}
VOCABULARY = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
PAPER_REPO = "TahaKoleilat/MedCLIPSeg"

NANO = BackboneSpec(
    name="nano",
    title="ours: small, ships with this package, learns on a CPU in minutes",
    licence="Apache-2.0",
    clip={
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 128,
            "patch_size": 8,
            "width": 64,
            "head_width": 32,
            "layers": 3,
            "block_type": "custom",
        },
        "text_cfg": {
            "context_length": 32,
            "width": 64,
            "heads": 2,
            "layers": 3,
            "mlp_ratio": 2.0,
            "block_type": "custom",
        },
    },
    fusion=(1,),
    adapter_dim=64,
    upscales=2,
    trains="all",
    preprocessing="local",
    contrast_text="unit",
    chunk=10,
    learning_rates=(2e-3, 2e-5),
    warmup=0.05,
    text_gain=4.0,
    # 49 408 random rows of which a project's prompts touch a dozen: nothing is gained by training them.
    frozen=("token_embedding.weight",),
)

CLIP_VIT_B16 = BackboneSpec(
    name="clip-vit-b16",
    title="OpenAI CLIP, ViT-B/16",
    licence="MIT",
    source=Source(repo="timm/vit_base_patch16_clip_224.openai", file="open_clip_model.safetensors"),
    clip=openai_clip(16),
    readout="values",
    **PUBLISHED,
)

PUBMEDCLIP = BackboneSpec(
    name="pubmedclip",
    title="PubMedCLIP, ViT-B/32 (arXiv 2112.13906)",
    licence="MIT",
    source=Source(repo=PAPER_REPO, file="checkpoints/PubMedCLIP_ViT32.pth"),
    clip=openai_clip(32),
    readout="values",
    **PUBLISHED,
)

BIOMEDCLIP = BackboneSpec(
    name="biomedclip",
    title="BiomedCLIP, ViT-B/16 and BiomedBERT (arXiv 2303.00915)",
    licence="MIT",
    source=Source(
        repo="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        file="open_clip_pytorch_model.bin",
        vocabulary=VOCABULARY,
    ),
    clip={
        "embed_dim": 512,
        "vision_cfg": {
            "timm_model_name": "vit_base_patch16_224",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 224,
        },
        "text_cfg": BERT,
    },
    text="bert",
    **PUBLISHED,
)

UNIMEDCLIP = BackboneSpec(
    name="unimedclip",
    title="UniMed-CLIP, ViT-B/16 and BiomedBERT (arXiv 2412.10372); the published default",
    licence="see the model card",
    source=Source(repo=PAPER_REPO, file="checkpoints/unimed_clip_vit_b16.pt", vocabulary=VOCABULARY),
    clip={**openai_clip(16), "text_cfg": BERT},
    text="bert",
    **PUBLISHED,
)

BACKBONES: dict[str, BackboneSpec] = {
    spec.name: spec for spec in (NANO, CLIP_VIT_B16, PUBMEDCLIP, BIOMEDCLIP, UNIMEDCLIP)
}


def find_backbone(name: str) -> BackboneSpec:
    """The named backbone. Raises ValueError with the known names."""
    if name not in BACKBONES:
        raise ValueError(f"backbone must be one of {', '.join(sorted(BACKBONES))}, got {name!r}")
    return BACKBONES[name]
