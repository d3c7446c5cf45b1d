"""MedCLIPSeg: two CLIP towers in lock step, adapters between their blocks, and a mask head (arXiv 2602.20423)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from maskloop_learner.model.adapters import Meeting, PVLAdapter
from maskloop_learner.model.backbones import BackboneSpec, Preprocessing
from maskloop_learner.model.construction import Tokenizer, build_clip, build_tokenizer
from maskloop_learner.model.head import MaskHead
from maskloop_learner.model.threads import one_thread
from maskloop_learner.model.towers import ImageTower, TextTower

if TYPE_CHECKING:
    from maskloop_learner.model.shared import SharedTowers


class Prefix(NamedTuple):
    """The model up to its first random operation: computed once, sampled often."""

    vision: Tensor
    """[B, 1 + patches, width], before the first adapter."""
    text: Tensor
    """[B, context, width]"""
    meeting: Meeting
    ids: Tensor
    """[B, context], int64: the prompts' tokens."""


class Output(NamedTuple):
    """One sample."""

    logits: Tensor
    """[B, size, size], of the probability that a pixel belongs to the prompt."""
    patches: Tensor
    """[B, patches, D], L2-normalised."""
    text: Tensor
    """[B, D], as the text tower's projection gives it."""


Noise = Sequence[tuple[Tensor, Tensor]]
"""Per adapter: standard normal [n, context, C] for the text's values and [n, 1 + patches, C] for the image's."""


class MedCLIPSeg(nn.Module):
    """A segmentation model prompted by text. Rows of a batch are (image, prompt) pairs."""

    def __init__(
        self,
        spec: BackboneSpec,
        *,
        seed: int = 0,
        vocabulary: Path | None = None,
        over: "SharedTowers | None" = None,
    ) -> None:
        """Random weights from `seed`. `vocabulary` is the folder of a BERT's vocab.txt, see `tokens`. `over`: frozen
        towers that other models stand on too; they are no part of this model's parameters."""
        super().__init__()
        self.spec = spec
        self.preprocessing: Preprocessing = spec.preprocessing
        self.clip: Any
        self.over = over
        if over is None:
            self.clip = build_clip(spec, seed=seed)
        else:
            # No child of this module: what moves, casts or freezes the model must leave alone what others use.
            object.__setattr__(self, "clip", over.clip)
        self.base = over.base if over else f"random:{seed}"
        """Where the towers' weights are from: this, or their digest in `Bases`."""
        self.vocabulary = over.vocabulary if over else vocabulary
        self.checkpointing = False
        """Compute activations again in the backward pass instead of keeping them: less memory, more time."""
        self.on_stage: Callable[[], None] | None = None
        """Called before each stage of a pass, forward and backward, in training; it may raise to end the pass."""
        self._tokenizer: Tokenizer | None = None
        self._dtype = torch.float32
        self._towers: tuple[ImageTower, TextTower] | None = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            vision_width, text_width = over.widths if over else self._widths()
            self.pvl_adapters = nn.ModuleList(
                PVLAdapter(
                    vision_width=vision_width,
                    text_width=text_width,
                    dim=spec.adapter_dim,
                    beta=spec.beta,
                    gate_init=spec.gate_init,
                )
                for _ in spec.fusion
            )
            self.head = MaskHead(int(spec.clip["embed_dim"]), upscales=spec.upscales)
        frozen = {f"clip.{name}" for name in spec.frozen}
        for name, parameter in self.named_parameters():
            tower = name.startswith("clip.")
            parameter.requires_grad_(name not in frozen and not (tower and spec.trains == "adapters"))
        self.register_load_state_dict_post_hook(  # type: ignore[no-untyped-call]
            lambda module, keys: module.forget_towers()
        )

    def train(self, mode: bool = True) -> "MedCLIPSeg":
        """Training mode; towers that do not learn stay in eval mode, or their dropout would act."""
        super().train(mode)
        if self.spec.trains == "adapters":
            self.clip.eval()
        return self

    def _widths(self) -> tuple[int, int]:
        image, text = self.towers()
        return image.blocks[0].out.weight.shape[0], text.blocks[0].out.weight.shape[0]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "MedCLIPSeg":
        self.forget_towers()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forget_towers(self) -> None:
        """Drop what was prepared from the towers' weights: they changed."""
        self._towers = None

    def towers(self) -> tuple[ImageTower, TextTower]:
        """Both towers; prepared once where they do not learn."""
        if self.over is not None:
            return self.over.packed(self._dtype)
        if self._towers is not None:
            return self._towers
        learns = any(p.requires_grad for p in self.clip.parameters()) and self.spec.trains == "all"
        made = (
            ImageTower(self.clip.visual, spec=self.spec, dtype=self._dtype, frozen=not learns),
            TextTower(self.clip, spec=self.spec, dtype=self._dtype, frozen=not learns),
        )
        if not learns:
            self._towers = made
        return made

    def use_precision(self, dtype: torch.dtype) -> "MedCLIPSeg":
        """For prediction: matrix products in `dtype` (float32 or bfloat16); residuals, norms and softmax stay float32.

        Norms and gates keep float32 weights. Not to be undone, and not for training (use autocast there).
        """
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"precision must be float32 or bfloat16, got {dtype}")
        self.requires_grad_(False)
        self._dtype = dtype
        self.forget_towers()
        for layer in [*self.pvl_adapters.modules(), *self.head.upscale.modules()]:
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                layer.to(dtype)
        return self

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """[P, context] int64 on the model's device. Raises ValueError when a BERT's vocabulary is missing."""
        if self._tokenizer is None:
            self._tokenizer = build_tokenizer(self.spec, self.vocabulary)
        return self._tokenizer(list(prompts)).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.pvl_adapters.parameters()).device

    def look(self, images: Tensor) -> Tensor:
        """Vision tokens before the first adapter. `images` [B, 3, size, size] -> [B, 1 + patches, width]."""
        tower = self.towers()[0]
        x = tower.embed(images)
        for i in range(self.spec.fusion[0]):
            x = tower.step(i, x)
        return x

    def read(self, ids: Tensor) -> Tensor:
        """Text tokens before the first adapter. `ids` [B, context] -> [B, context, width]."""
        tower = self.towers()[1]
        x = tower.embed(ids)
        for i in range(self.spec.fusion[0]):
            x = tower.step(i, x, ids)
        return x

    def prefix(self, vision: Tensor, text: Tensor, ids: Tensor) -> Prefix:
        """Join what `look` and `read` gave, row by row, up to the first random operation."""
        return Prefix(vision, text, self.adapter(0).meet(vision, text), ids)

    def sample(self, prefix: Prefix, noise: Noise | None) -> Output:
        """The rest of the model. A prefix of one row serves all n rows of the noise.

        Without noise every value is its mean: one deterministic pass.
        """
        n = len(prefix.vision) if noise is None else len(noise[0][0])
        image, words = self.towers()
        vision, text = prefix.vision.expand(n, -1, -1), prefix.text.expand(n, -1, -1)
        ids = prefix.ids.expand(n, -1)

        def stage(i: int, vision: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
            self.watch(vision)
            if i in self.spec.fusion:
                k = self.spec.fusion.index(i)
                meeting = self.adapter(k).meet(vision, text) if k else prefix.meeting
                more_vision, more_text = self.adapter(k).part(meeting, *(noise[k] if noise else (None, None)))
                vision, text = vision + more_vision, text + more_text
            if i == len(image.blocks) - 1:
                return vision, text
            return image.step(i, vision), words.step(i, text, ids)

        for i in range(self.spec.fusion[0], len(image.blocks)):
            if self.checkpointing and torch.is_grad_enabled():
                vision, text = checkpoint(stage, i, vision, text, use_reentrant=False)
            else:
                vision, text = stage(i, vision, text)
        patches = image.read(vision)
        with one_thread():
            pooled = words.read(text, ids)
        side = round(patches.shape[1] ** 0.5)
        logits = self.head(patches, pooled, grid=(side, side), size=self.spec.image_size)
        return Output(logits, F.normalize(patches, dim=-1), pooled)

    def forward(self, images: Tensor, ids: Tensor, noise: Noise | None) -> Output:
        """One sample of each (image, prompt) pair. `images` [B, 3, size, size]; `ids` [P, context] for all images
        alike, or [B, P, context] for each its own.

        The rows of the output and of the noise are image 0 with its P prompts, then image 1, and so on.
        """
        vision = self.look(images).repeat_interleave(ids.shape[-2], dim=0)
        if ids.ndim == 3:
            rows = ids.flatten(0, 1)
            return self.sample(self.prefix(vision, self.read(rows), rows), noise)
        text = self.read(ids).repeat(len(images), 1, 1)
        return self.sample(self.prefix(vision, text, ids.repeat(len(images), 1)), noise)

    def watch(self, tokens: Tensor) -> None:
        """Call `on_stage` now and when the backward pass comes by here."""
        if (call := self.on_stage) is None:
            return
        call()
        if tokens.requires_grad:
            tokens.register_hook(lambda grad: call())  # type: ignore[no-untyped-call]

    def noise_shapes(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Per adapter the shapes, without the batch, of the two noises in the order they are drawn."""
        patch = self.clip.visual.trunk.patch_embed.patch_size if self.spec_is_timm else self.clip.visual.patch_size
        patches = (self.spec.image_size // patch[0]) ** 2
        dim = self.spec.adapter_dim
        return [((self.spec.context, dim), (1 + patches, dim)) for _ in self.spec.fusion]

    @property
    def spec_is_timm(self) -> bool:
        """Whether the image tower is timm's."""
        return "timm_model_name" in self.spec.clip["vision_cfg"]

    def adapter(self, k: int) -> PVLAdapter:
        """The k-th adapter."""
        return cast(PVLAdapter, self.pvl_adapters[k])
