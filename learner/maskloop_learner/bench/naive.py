"""The plain way, as the published code goes it: whole passes through the libraries' own blocks, one per sample.

It is what `maskloop bench` measures against. The weights are the model's own, so the results can be compared.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskloop_learner.model.medclipseg import MedCLIPSeg, Noise
from maskloop_learner.model.towers import PAD


class NaiveMedCLIPSeg:
    """The same network, each pass whole."""

    def __init__(self, model: MedCLIPSeg) -> None:
        self.model = model
        self.clip = model.clip
        self._bert = model.spec.text == "bert"
        self._timm = "timm_model_name" in model.spec.clip["vision_cfg"]

    def forward(self, images: Tensor, ids: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [B, S, S], unit patch features [B, P, D] and raw text [B, D] of B images with a prompt each."""
        vision, text = self._embed(images, ids)
        values = vision
        spec = self.model.spec
        for i, (see, say) in enumerate(zip(self._image_blocks(), self._text_blocks(), strict=True)):
            if i in spec.fusion:
                k = spec.fusion.index(i)
                adapter = self.model.adapter(k)
                more_vision, more_text = adapter.part(adapter.meet(vision, text), *noise[k])
                vision, text = vision + more_vision, text + more_text
            if spec.readout == "values":
                # The published blocks project every block's patches; only the last one's are used.
                values = project_values(see, vision)
            vision = see(vision)
            text = self._say(say, text, ids)
        patches = self._patches(values if spec.readout == "values" else vision)
        pooled = self._pool(text, ids)
        side = round(patches.shape[1] ** 0.5)
        logits = naive_head(self.model.head, F.normalize(patches, dim=-1), pooled, side, spec.image_size)
        return logits, F.normalize(patches, dim=-1), pooled

    def sample(self, image: Tensor, ids: Tensor, noises: list[Noise]) -> Tensor:
        """Logits [S, size, size] after one pass that is thrown away, as the published evaluation makes."""
        self.forward(image, ids, noises[0])
        return torch.cat([self.forward(image, ids, noise)[0] for noise in noises])

    def _embed(self, images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        image, text = self.model.towers()
        return image.embed(images), text.embed(ids)

    def _image_blocks(self) -> Any:
        return self.clip.visual.trunk.blocks if self._timm else self.clip.visual.transformer.resblocks

    def _text_blocks(self) -> Any:
        return self.clip.text.transformer.encoder.layer if self._bert else self.clip.transformer.resblocks

    def _say(self, block: Any, text: Tensor, ids: Tensor) -> Tensor:
        if not self._bert:
            found: Tensor = block(text, attn_mask=self.clip.attn_mask)
            return found
        penalty = (ids == PAD)[:, None, None].to(text.dtype) * torch.finfo(text.dtype).min
        found = block(text, attention_mask=penalty)
        # Older releases of transformers answer with a tuple.
        return found[0] if isinstance(found, tuple) else found

    def _patches(self, tokens: Tensor) -> Tensor:
        visual = self.clip.visual
        found: Tensor = visual.head(visual.trunk.norm(tokens)) if self._timm else visual.ln_post(tokens) @ visual.proj
        return found[:, 1:]

    def _pool(self, text: Tensor, ids: Tensor) -> Tensor:
        if self._bert:
            found: Tensor = self.clip.text.proj(text[:, 0])
            return found
        rows = torch.arange(len(text), device=text.device), ids.argmax(dim=-1).expand(len(text))
        pooled: Tensor = self.clip.ln_final(text)[rows] @ self.clip.text_projection
        return pooled


def project_values(block: Any, x: Tensor) -> Tensor:
    """A block's value path through its own attention's weights."""
    attention, w = block.attn, x.shape[-1]
    value = F.linear(block.ln_1(x), attention.in_proj_weight[-w:], attention.in_proj_bias[-w:])
    return F.linear(value, attention.out_proj.weight, attention.out_proj.bias)


def naive_head(head: Any, patches: Tensor, text: Tensor, side: int, size: int) -> Tensor:
    """The head with channels first, as convolutions."""
    b, _, dim = patches.shape
    grown = patches.reshape(b, side, side, dim).permute(0, 3, 1, 2)
    for block in head.upscale:
        grown = block.conv2(F.gelu(block.conv1(grown)))
        grown = layer_norm_2d(grown, block.norm)
    query = head.mask_head(F.normalize(text, dim=-1))
    logits = torch.einsum("bc,bchw->bhw", query, grown).unsqueeze(1)
    return F.interpolate(logits, (size, size), mode="bilinear", align_corners=False).squeeze(1)


def layer_norm_2d(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Layer norm over the channels of [B, C, H, W]."""
    return F.layer_norm(x.permute(0, 2, 3, 1), norm.normalized_shape, norm.weight, norm.bias, norm.eps).permute(
        0, 3, 1, 2
    )
