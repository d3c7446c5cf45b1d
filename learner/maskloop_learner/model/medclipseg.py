"""MedCLIPSeg: two CLIP towers in lock step, adapters between their blocks, and a mask head."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskloop_learner.model.adapters import Meeting, PVLAdapter
from maskloop_learner.model.backbones import BackboneSpec, build_clip, build_tokenizer
from maskloop_learner.model.head import MaskHead


class Prefix(NamedTuple):
    """The model up to its first random operation: computed once, sampled often."""

    vision: Tensor
    """[B, 1 + patches, width], before the first adapter."""
    text: Tensor
    """[B, context, width]"""
    meeting: Meeting
    ends: Tensor
    """[B], int64: where each prompt's end token is."""


class Output(NamedTuple):
    """One sample."""

    logits: Tensor
    """[B, size, size], of the probability that a pixel belongs to the prompt."""
    patches: Tensor
    """[B, patches, D], L2-normalised."""
    text: Tensor
    """[B, D], L2-normalised."""


Noise = Sequence[tuple[Tensor, Tensor]]
"""Per adapter: standard normal [n, context, C] for the text's values and [n, 1 + patches, C] for the image's."""


class MedCLIPSeg(nn.Module):
    """A segmentation model prompted by text. Rows of a batch are (image, prompt) pairs."""

    def __init__(self, spec: BackboneSpec, *, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.clip = build_clip(spec, seed=seed)
        self.tokenizer = build_tokenizer(spec)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.pvl_adapters = nn.ModuleList(
                PVLAdapter(
                    vision_width=self.clip.visual.transformer.width,
                    text_width=self.clip.transformer.width,
                    dim=spec.adapter_dim,
                    beta=spec.beta,
                    gate_init=spec.gate_init,
                )
                for _ in spec.fusion
            )
            self.head = MaskHead(self.clip.visual.output_dim, upscales=spec.upscales)
        frozen = {f"clip.{name}" for name in spec.frozen}
        for name, parameter in self.named_parameters():
            tower = name.startswith("clip.")
            parameter.requires_grad_(name not in frozen and not (tower and spec.trains == "adapters"))

    def train(self, mode: bool = True) -> "MedCLIPSeg":
        """Training mode; towers that do not learn stay in eval mode, or their dropout would act."""
        super().train(mode)
        if self.spec.trains == "adapters":
            self.clip.eval()
        return self

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """[P, context] int64 on the model's device."""
        return cast(Tensor, self.tokenizer(list(prompts))).to(self.clip.token_embedding.weight.device)

    def look(self, images: Tensor) -> Tensor:
        """Vision tokens before the first adapter. `images` [B, 3, size, size] -> [B, 1 + patches, width]."""
        x = cast(Tensor, self.clip.visual._embeds(images))
        for block in self.clip.visual.transformer.resblocks[: self.spec.fusion[0]]:
            x = block(x)
        return x

    def read(self, tokens: Tensor) -> Tensor:
        """Text tokens before the first adapter. `tokens` [B, context] -> [B, context, width]."""
        x = cast(Tensor, self.clip.token_embedding(tokens) + self.clip.positional_embedding)
        for block in self.clip.transformer.resblocks[: self.spec.fusion[0]]:
            x = block(x, attn_mask=self.clip.attn_mask)
        return x

    def prefix(self, vision: Tensor, text: Tensor, tokens: Tensor) -> Prefix:
        """Join what `look` and `read` gave, row by row, up to the first random operation."""
        # The end token has the largest id of the vocabulary.
        return Prefix(vision, text, self.adapter(0).meet(vision, text), tokens.argmax(dim=-1))

    def sample(self, prefix: Prefix, noise: Noise) -> Output:
        """The rest of the model. A prefix of one row serves all n rows of the noise."""
        n = len(noise[0][0])
        vision, text = prefix.vision.expand(n, -1, -1), prefix.text.expand(n, -1, -1)
        meeting = prefix.meeting
        blocks = zip(self.clip.visual.transformer.resblocks, self.clip.transformer.resblocks, strict=True)
        for i, (see, say) in enumerate(blocks):
            if i < self.spec.fusion[0]:
                continue
            if i in self.spec.fusion:
                k = self.spec.fusion.index(i)
                if k:
                    meeting = self.adapter(k).meet(vision, text)
                more_vision, more_text = self.adapter(k).part(meeting, *noise[k])
                vision, text = vision + more_vision, text + more_text
            vision = see(vision)
            text = say(text, attn_mask=self.clip.attn_mask)
        patches = self.clip.visual.ln_post(vision[:, 1:]) @ self.clip.visual.proj
        ends = prefix.ends.expand(n)
        pooled = self.clip.ln_final(text[torch.arange(n, device=text.device), ends]) @ self.clip.text_projection
        logits = self.head(patches, pooled, grid=self.clip.visual.grid_size, size=self.spec.image_size)
        return Output(logits, F.normalize(patches, dim=-1), F.normalize(pooled, dim=-1))

    def forward(self, images: Tensor, tokens: Tensor, noise: Noise) -> Output:
        """One sample of each (image, prompt) pair. `images` [B, 3, size, size], `tokens` [P, context].

        The rows of the output and of the noise are image 0 with all P prompts, then image 1, and so on.
        """
        vision = self.look(images).repeat_interleave(len(tokens), dim=0)
        text = self.read(tokens).repeat(len(images), 1, 1)
        return self.sample(self.prefix(vision, text, tokens.repeat(len(images), 1)), noise)

    def noise_shapes(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Per adapter the shapes, without the batch, of the two noises in the order they are drawn."""
        text = (int(self.clip.context_length), self.spec.adapter_dim)
        vision = (len(self.clip.visual.positional_embedding), self.spec.adapter_dim)
        return [(text, vision) for _ in self.spec.fusion]

    def adapter(self, k: int) -> PVLAdapter:
        """The k-th adapter."""
        return cast(PVLAdapter, self.pvl_adapters[k])
