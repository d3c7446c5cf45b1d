"""From a library's block to `Block`: names, fused products, folded constants, precision."""

from typing import Any

import torch
from torch import Tensor, nn

from maskloop_learner.model.blocks import QUICK, Affine, Block, Norm


def pack_openai(module: Any, *, quick: bool) -> Block:
    """A block of open_clip's own transformers. Its attention's weights are fused already."""
    attention = module.attn
    return Block(
        norm1=norm_of(module.ln_1),
        qkv=Affine(attention.in_proj_weight, attention.in_proj_bias),
        out=linear_of(attention.out_proj),
        norm2=norm_of(module.ln_2),
        grow=linear_of(module.mlp.c_fc),
        shrink=linear_of(module.mlp.c_proj),
        heads=attention.num_heads,
        activation="quick" if quick else "gelu",
        post_norm=False,
    )


def pack_timm(module: Any) -> Block:
    """A block of timm's vision transformer."""
    return Block(
        norm1=norm_of(module.norm1),
        qkv=linear_of(module.attn.qkv),
        out=linear_of(module.attn.proj),
        norm2=norm_of(module.norm2),
        grow=linear_of(module.mlp.fc1),
        shrink=linear_of(module.mlp.fc2),
        heads=module.attn.num_heads,
        activation="gelu",
        post_norm=False,
    )


def pack_bert(module: Any) -> Block:
    """A layer of transformers' BERT."""
    parts = [getattr(module.attention.self, name) for name in ("query", "key", "value")]
    return Block(
        norm1=norm_of(module.attention.output.LayerNorm),
        qkv=Affine(torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])),
        out=linear_of(module.attention.output.dense),
        norm2=norm_of(module.output.LayerNorm),
        grow=linear_of(module.intermediate.dense),
        shrink=linear_of(module.output.dense),
        heads=module.attention.self.num_attention_heads,
        activation="gelu",
        post_norm=True,
    )


def freeze_block(block: Block, dtype: torch.dtype) -> Block:
    """The block for weights that stay: detached, products in `dtype`, QuickGELU's constants folded away."""
    grow, shrink, activation = block.grow, block.shrink, block.activation
    if activation == "quick":
        # x * sigmoid(a x) = silu(a x) / a: one pass over the widest tensor of the block instead of three.
        grow, shrink, activation = scale(grow, QUICK), Affine(shrink.weight / QUICK, shrink.bias), "silu"
    return block._replace(
        qkv=cast_to(block.qkv, dtype),
        out=cast_to(block.out, dtype),
        grow=cast_to(grow, dtype),
        shrink=cast_to(shrink, dtype),
        activation=activation,
    )


def scale(p: Affine, factor: float) -> Affine:
    """The map times a number."""
    return Affine(p.weight * factor, None if p.bias is None else p.bias * factor)


def cast_to(p: Affine, dtype: torch.dtype) -> Affine:
    """Detached, in `dtype`; nothing is copied when it is that already."""
    return Affine(p.weight.detach().to(dtype), None if p.bias is None else p.bias.detach().to(dtype))


def linear_of(layer: nn.Linear) -> Affine:
    """A linear layer's weights."""
    return Affine(layer.weight, layer.bias)


def norm_of(layer: nn.LayerNorm) -> Norm:
    """A layer norm's weights."""
    weight: Tensor = layer.weight
    return Norm(weight, layer.bias, layer.eps)
