"""One transformer block over the weights of open_clip, timm or transformers: the same few matrix products.

`nn.MultiheadAttention` is slow where it matters: batch first, under bf16 autocast, it expands its weight to the
batch's size before every product. Here each product is one `F.linear` on contiguous rows.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

QUICK = 1.702
"""QuickGELU: x * sigmoid(1.702 x)."""


class Affine(NamedTuple):
    """`x @ weight.T + bias`."""

    weight: Tensor
    bias: Tensor | None


class Norm(NamedTuple):
    """A layer norm."""

    weight: Tensor
    bias: Tensor
    eps: float


class Block(NamedTuple):
    """The weights of one block: attention, then two layers, each with a residual and a norm."""

    norm1: Norm
    qkv: Affine
    out: Affine
    norm2: Norm
    grow: Affine
    shrink: Affine
    heads: int
    activation: Literal["gelu", "quick", "silu"]
    """`silu`: QuickGELU whose two constants are folded into `grow` and `shrink`."""
    post_norm: bool
    """BERT norms each residual's sum, the others what goes into attention and layers."""


def affine(x: Tensor, p: Affine | nn.Linear) -> Tensor:
    """The product in the weight's precision (under autocast: in that of autocast)."""
    return F.linear(x if x.dtype == p.weight.dtype else x.to(p.weight.dtype), p.weight, p.bias)


def full(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def normed(x: Tensor, n: Norm | nn.LayerNorm) -> Tensor:
    """Layer norm over the last axis, in float32 at least."""
    return F.layer_norm(full(x), (x.shape[-1],), n.weight, n.bias, n.eps)


def run_block(
    block: Block, x: Tensor, *, mask: Tensor | None = None, causal: bool = False, rows: Tensor | None = None
) -> Tensor:
    """[B, T, W] -> [B, T, W], or [B, 1, W] where `rows` [B, 1, W], the inputs of one row each, is given.

    `mask`, broadcastable to [B, heads, rows, T], is True where a key may be attended.
    """
    asked = x if rows is None else rows
    y = x if block.post_norm else normed(x, block.norm1)
    if rows is None:
        q, k, v = split_heads(affine(y, block.qkv), 3, block.heads)
    else:
        w = x.shape[-1]
        weight, bias = block.qkv
        z = rows if block.post_norm else normed(rows, block.norm1)
        (q,) = split_heads(affine(z, Affine(weight[:w], None if bias is None else bias[:w])), 1, block.heads)
        k, v = split_heads(affine(y, Affine(weight[w:], None if bias is None else bias[w:])), 2, block.heads)
    found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    x = asked + affine(found.transpose(1, 2).flatten(2), block.out)
    if block.post_norm:
        x = normed(x, block.norm1)
    grown = affine(x if block.post_norm else normed(x, block.norm2), block.grow)
    x = x + affine(activate(grown, block.activation), block.shrink)
    return normed(x, block.norm2) if block.post_norm else x


def value_path(block: Block, x: Tensor) -> Tensor:
    """What a token would read of itself alone (MaskCLIP): value and output projection, no attention, no layers."""
    w = x.shape[-1]
    weight, bias = block.qkv
    value = affine(normed(x, block.norm1), Affine(weight[2 * w :], None if bias is None else bias[2 * w :]))
    return affine(value, block.out)


def split_heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """[B, T, parts * W] -> parts of [B, heads, T, W / heads]."""
    b, t, w = x.shape
    return x.view(b, t, parts, heads, w // (parts * heads)).permute(2, 0, 3, 1, 4).unbind(0)


def activate(x: Tensor, name: Literal["gelu", "quick", "silu"]) -> Tensor:
    """The block's non-linearity."""
    if name == "gelu":
        return F.gelu(x)
    return F.silu(x) if name == "silu" else x * torch.sigmoid(QUICK * x)
