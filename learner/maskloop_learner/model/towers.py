"""The two towers of a CLIP as steps, so that adapters can run between their blocks."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from maskloop_learner.model.backbones import BackboneSpec
from maskloop_learner.model.blocks import Affine, Block, affine, full, normed, run_block, value_path
from maskloop_learner.model.packing import freeze_block, norm_of, pack_bert, pack_openai, pack_timm

PAD = 0
"""BERT's padding token."""


class ImageTower:
    """Image in, patch features out; the steps between are the caller's."""

    def __init__(self, visual: Any, *, spec: BackboneSpec, dtype: torch.dtype, frozen: bool) -> None:
        self._visual = visual
        self._values = spec.readout == "values"
        trunk: Any = getattr(visual, "trunk", None)
        if trunk is not None:
            blocks = [pack_timm(block) for block in trunk.blocks]
            self._norm, self._proj = norm_of(trunk.norm), self._visual.head.proj.weight
        else:
            quick = bool(spec.clip.get("quick_gelu"))
            blocks = [pack_openai(block, quick=quick) for block in self._visual.transformer.resblocks]
            self._norm, self._proj = norm_of(self._visual.ln_post), self._visual.proj.T
        self.blocks: list[Block] = [freeze_block(block, dtype) if frozen else block for block in blocks]
        if frozen:
            self._proj = self._proj.detach().to(dtype).contiguous()

    @property
    def projection(self) -> Tensor:
        """Of the read-out."""
        return cast(Tensor, self._proj)

    def embed(self, images: Tensor) -> Tensor:
        """[B, 3, size, size] -> tokens [B, 1 + patches, W], class token first."""
        trunk: Any = getattr(self._visual, "trunk", None)
        if trunk is None:
            return cast(Tensor, self._visual._embeds(images))
        return cast(Tensor, trunk.norm_pre(trunk._pos_embed(trunk.patch_embed(images))))

    def step(self, i: int, tokens: Tensor) -> Tensor:
        """Block i."""
        return run_block(self.blocks[i], tokens)

    def read(self, tokens: Tensor) -> Tensor:
        """The last block and the read-out: tokens [B, 1 + patches, W] -> patch features [B, patches, D]."""
        if self._values:
            found = value_path(self.blocks[-1], tokens[:, 1:])
        else:
            found = self.step(-1, tokens)[:, 1:]
        return full(affine(normed(found, self._norm), Affine(self._proj, None)))


class TextTower:
    """Token ids in, one vector per prompt out."""

    def __init__(self, clip: Any, *, spec: BackboneSpec, dtype: torch.dtype, frozen: bool) -> None:
        self._clip = clip
        self._bert = spec.text == "bert"
        if self._bert:
            blocks = [pack_bert(layer) for layer in self._clip.text.transformer.encoder.layer]
        else:
            quick = bool(spec.clip.get("quick_gelu"))
            blocks = [pack_openai(block, quick=quick) for block in self._clip.transformer.resblocks]
        self.blocks: list[Block] = [freeze_block(block, dtype) if frozen else block for block in blocks]

    def embed(self, ids: Tensor) -> Tensor:
        """[B, context] int64 -> tokens [B, context, W]."""
        if not self._bert:
            return cast(Tensor, self._clip.token_embedding(ids) + self._clip.positional_embedding)
        table = self._clip.text.transformer.embeddings
        summed = table.word_embeddings(ids) + table.position_embeddings.weight[: ids.shape[1]]
        return normed(summed + table.token_type_embeddings.weight[0], norm_of(table.LayerNorm))

    def step(self, i: int, tokens: Tensor, ids: Tensor) -> Tensor:
        """Block i. A BERT does not attend to padding; a CLIP's token only to those before it."""
        if self._bert:
            return run_block(self.blocks[i], tokens, mask=(ids != PAD)[:, None, None])
        return run_block(self.blocks[i], tokens, causal=True)

    def read(self, tokens: Tensor, ids: Tensor) -> Tensor:
        """The last block, for the row that is read alone, and the projection: [B, context, W] -> [B, D].

        The row is [CLS], the first, of a BERT and the end token, the largest id, of a CLIP.
        """
        n = len(tokens)
        if self._bert:
            mask = (ids != PAD)[:, None, None]
            pooled = run_block(self.blocks[-1], tokens, mask=mask, rows=tokens[:, :1])[:, 0]
            return cast(Tensor, self._clip.text.proj(pooled))
        ends = ids.argmax(dim=-1)
        mask = (torch.arange(ids.shape[1], device=ids.device) <= ends[:, None])[:, None, None]
        rows = tokens[torch.arange(n, device=ids.device), ends.expand(n)][:, None]
        pooled = run_block(self.blocks[-1], tokens, mask=mask, rows=rows)[:, 0]
        return F.linear(normed(pooled, norm_of(self._clip.ln_final)), self._clip.text_projection.T)
