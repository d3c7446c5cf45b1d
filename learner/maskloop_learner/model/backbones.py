"""Backbones by name: which CLIP, where the adapters sit, and what of it learns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """All that determines a MedCLIPSeg before its first training step."""

    name: str
    clip: Mapping[str, Any]
    """Keyword arguments of `open_clip.model.CLIP`; both towers have the same number of layers."""
    fusion: tuple[int, ...]
    """Zero-based blocks before which an adapter runs."""
    adapter_dim: int
    upscales: int
    """Doublings of the patch grid before the mask is read off."""
    trains: Literal["all", "adapters"]
    """`adapters` leaves both towers as they are; `all` trains them too, for towers without learnt weights."""
    contrast: Literal["local", "image", "clip"]
    """`image`: every image is brought to mean 0 and deviation 1; `local`: detail also stands out against its
    surroundings; `clip`: CLIP's constants."""
    beta: float = 2.35
    gate_init: float = 0.0
    temperature: float = 0.2
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


NANO = BackboneSpec(
    name="nano",
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
    contrast="local",
    learning_rates=(2e-3, 2e-5),
    warmup=0.05,
    text_gain=4.0,
    # 49 408 random rows of which a project's prompts touch a dozen: nothing is gained by training them.
    frozen=("token_embedding.weight",),
)

BACKBONES: dict[str, BackboneSpec] = {NANO.name: NANO}


def find_backbone(name: str) -> BackboneSpec:
    """The named backbone. Raises ValueError with the known names."""
    if name not in BACKBONES:
        raise ValueError(f"backbone must be one of {', '.join(sorted(BACKBONES))}, got {name!r}")
    return BACKBONES[name]


def build_clip(spec: BackboneSpec, *, seed: int) -> CLIP:
    """The backbone's CLIP, float32 on the CPU, its random weights drawn from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = CLIP(**spec.clip)
    with torch.no_grad():
        for block in clip.transformer.resblocks:
            block.attn.in_proj_weight.mul_(spec.text_gain)
            block.attn.out_proj.weight.mul_(spec.text_gain)
        for name in spec.frozen:
            # Values that half precision holds exactly let a weights file keep them in half the space.
            parameter = clip.get_parameter(name)
            parameter.copy_(parameter.half())
    return clip


def build_tokenizer(spec: BackboneSpec) -> SimpleTokenizer:
    """CLIP's byte-pair tokenizer with the backbone's context length; longer prompts are cut."""
    return SimpleTokenizer(context_length=int(spec.clip["text_cfg"]["context_length"]))
