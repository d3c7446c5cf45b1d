"""MedCLIPSeg written out plainly: no fused products, no caching, every pass whole. The model is tested against it.

Works on a state dict with the model's own names. Equations: arXiv 2602.20423 and its published code.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from maskloop_learner.model.backbones import BackboneSpec

Weights = Mapping[str, Tensor]
BETA, LAYER_EPS, TIMM_EPS, BERT_EPS, HEAD_EPS, FLOOR = 2.35, 1e-5, 1e-6, 1e-12, 1e-6, 1e-6


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def layer_norm(w: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return centred / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def quick_gelu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-1.702 * x))


def softplus(x: Tensor) -> Tensor:
    return x.clamp_min(0) + torch.log1p(torch.exp(-x.abs()))


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, penalty: Tensor | None) -> Tensor:
    """Head by head; `penalty` [T, T] or [B, 1, T] is added to the scores."""
    size = q.shape[-1] // heads
    out = []
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(size)
        if penalty is not None:
            scores = scores + penalty
        out.append(torch.softmax(scores, -1) @ v[..., part])
    return torch.cat(out, -1)


def openai_block(
    w: Weights, name: str, x: Tensor, heads: int, penalty: Tensor | None, act: Callable[[Tensor], Tensor]
) -> Tensor:
    y = layer_norm(w, f"{name}.ln_1", x, LAYER_EPS)
    q, k, v = (y @ w[f"{name}.attn.in_proj_weight"].T + w[f"{name}.attn.in_proj_bias"]).chunk(3, -1)
    x = x + linear(w, f"{name}.attn.out_proj", attend(q, k, v, heads, penalty))
    y = layer_norm(w, f"{name}.ln_2", x, LAYER_EPS)
    return x + linear(w, f"{name}.mlp.c_proj", act(linear(w, f"{name}.mlp.c_fc", y)))


def timm_block(w: Weights, name: str, x: Tensor, heads: int) -> Tensor:
    q, k, v = linear(w, f"{name}.attn.qkv", layer_norm(w, f"{name}.norm1", x, TIMM_EPS)).chunk(3, -1)
    x = x + linear(w, f"{name}.attn.proj", attend(q, k, v, heads, None))
    y = linear(w, f"{name}.mlp.fc1", layer_norm(w, f"{name}.norm2", x, TIMM_EPS))
    return x + linear(w, f"{name}.mlp.fc2", gelu(y))


def bert_layer(w: Weights, name: str, x: Tensor, heads: int, penalty: Tensor) -> Tensor:
    q, k, v = (linear(w, f"{name}.attention.self.{part}", x) for part in ("query", "key", "value"))
    y = linear(w, f"{name}.attention.output.dense", attend(q, k, v, heads, penalty))
    x = layer_norm(w, f"{name}.attention.output.LayerNorm", x + y, BERT_EPS)
    y = linear(w, f"{name}.output.dense", gelu(linear(w, f"{name}.intermediate.dense", x)))
    return layer_norm(w, f"{name}.output.LayerNorm", x + y, BERT_EPS)


def cross_attention(w: Weights, name: str, query: Tensor, context: Tensor, noise: Tensor) -> Tensor:
    """Gaussian keys and values; all keys take part, padding too; the values alone are sampled."""
    dim = query.shape[-1]
    q = linear(w, f"{name}.q_proj", query)
    k, v = linear(w, f"{name}.k_proj", context), linear(w, f"{name}.v_proj", context)
    k_mean, k_var = layer_norm(w, f"{name}.norm_k", k[..., :dim], LAYER_EPS), softplus(k[..., dim:]) + FLOOR
    v_mean, v_var = layer_norm(w, f"{name}.norm_v", v[..., :dim], LAYER_EPS), softplus(v[..., dim:]) + FLOOR
    scores = q @ k_mean.transpose(1, 2) / math.sqrt(dim)
    scores = scores - BETA * torch.sqrt(q**2 @ k_var.transpose(1, 2) / dim)
    out = linear(w, f"{name}.out_proj", torch.softmax(scores, -1) @ (v_mean + torch.sqrt(v_var) * noise))
    gate = torch.sigmoid(w[f"{name}.gate"])
    return gate * out + (1 - gate) * query


def adapter(w: Weights, name: str, vision: Tensor, text: Tensor, noise: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    v, t = linear(w, f"{name}.proj_vis_down.0", vision), linear(w, f"{name}.proj_txt_down", text)
    v = cross_attention(w, f"{name}.two_way.cross_attn_img_to_txt", v, t, noise[0])
    t = cross_attention(w, f"{name}.two_way.cross_attn_txt_to_img", t, v, noise[1])
    return linear(w, f"{name}.proj_vis_up", v), linear(w, f"{name}.proj_txt_up", t)


def embed_image(w: Weights, images: Tensor, timm: bool) -> Tensor:
    """Patches by a strided sum, the class token first, positions added; OpenAI's towers norm them."""
    conv = "clip.visual.trunk.patch_embed.proj" if timm else "clip.visual.conv1"
    kernel = w[f"{conv}.weight"]
    p = kernel.shape[-1]
    b, c, h, _ = images.shape
    cells = images.view(b, c, h // p, p, h // p, p).permute(0, 2, 4, 1, 3, 5).reshape(b, (h // p) ** 2, c * p * p)
    x = cells @ kernel.flatten(1).T
    if timm:
        first, position = w["clip.visual.trunk.cls_token"].expand(b, -1, -1), w["clip.visual.trunk.pos_embed"]
        return torch.cat([first, x + w[f"{conv}.bias"]], 1) + position
    x = torch.cat([w["clip.visual.class_embedding"].expand(b, 1, -1), x], 1) + w["clip.visual.positional_embedding"]
    return layer_norm(w, "clip.visual.ln_pre", x, LAYER_EPS)


def embed_text(w: Weights, ids: Tensor, bert: bool) -> Tensor:
    if not bert:
        return w["clip.token_embedding.weight"][ids] + w["clip.positional_embedding"]
    name = "clip.text.transformer.embeddings"
    x = w[f"{name}.word_embeddings.weight"][ids] + w[f"{name}.position_embeddings.weight"][: ids.shape[1]]
    return layer_norm(w, f"{name}.LayerNorm", x + w[f"{name}.token_type_embeddings.weight"][0], BERT_EPS)


def forward(
    spec: BackboneSpec, w: Weights, images: Tensor, ids: Tensor, noise: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor, Tensor]:
    """One whole pass for B images with one prompt each: logits [B, S, S], patches [B, P, D] and text [B, D], raw."""
    bert, timm = spec.text == "bert", "timm_model_name" in spec.clip["vision_cfg"]
    act = quick_gelu if spec.clip.get("quick_gelu") else gelu
    layers = int(spec.clip["vision_cfg"].get("layers", 12))
    x, t = embed_image(w, images, timm), embed_text(w, ids, bert)
    heads = x.shape[-1] // int(spec.clip["vision_cfg"].get("head_width", 64))
    text_heads = 12 if bert else int(spec.clip["text_cfg"]["heads"])
    causal = torch.full((ids.shape[1],) * 2, float("-inf"), dtype=images.dtype).triu(1)
    padding = (ids == 0)[:, None].to(images.dtype) * torch.finfo(images.dtype).min
    values = x
    for i in range(layers):
        if i in spec.fusion:
            k = spec.fusion.index(i)
            dx, dt = adapter(w, f"pvl_adapters.{k}", x, t, noise[k])
            x, t = x + dx, t + dt
        if timm:
            x = timm_block(w, f"clip.visual.trunk.blocks.{i}", x, heads)
        else:
            name = f"clip.visual.transformer.resblocks.{i}"
            d = x.shape[-1]
            y = layer_norm(w, f"{name}.ln_1", x, LAYER_EPS)
            y = y @ w[f"{name}.attn.in_proj_weight"][-d:].T + w[f"{name}.attn.in_proj_bias"][-d:]
            values = linear(w, f"{name}.attn.out_proj", y)
            x = openai_block(w, name, x, heads, None, act)
        if bert:
            t = bert_layer(w, f"clip.text.transformer.encoder.layer.{i}", t, text_heads, padding)
        else:
            t = openai_block(w, f"clip.transformer.resblocks.{i}", t, text_heads, causal, act)
    tokens = values if spec.readout == "values" else x
    if timm:
        patches = linear(w, "clip.visual.head.proj", layer_norm(w, "clip.visual.trunk.norm", tokens, TIMM_EPS))
    else:
        patches = layer_norm(w, "clip.visual.ln_post", tokens, LAYER_EPS) @ w["clip.visual.proj"]
    patches = patches[:, 1:]
    if bert:
        pooled = linear(w, "clip.text.proj.2", gelu(linear(w, "clip.text.proj.0", t[:, 0])))
    else:
        t = layer_norm(w, "clip.ln_final", t, LAYER_EPS)
        pooled = t[torch.arange(len(t)), ids.argmax(-1)] @ w["clip.text_projection"]
    return read_mask(spec, w, patches, pooled), patches, pooled


def read_mask(spec: BackboneSpec, w: Weights, patches: Tensor, pooled: Tensor) -> Tensor:
    b, count, dim = patches.shape
    side = math.isqrt(count)
    grid = (patches / patches.norm(dim=-1, keepdim=True)).view(b, side, side, dim).permute(0, 3, 1, 2)
    for i in range(spec.upscales):
        name = f"head.upscale.{i}"
        grid = torch.conv_transpose2d(grid, w[f"{name}.conv1.weight"], w[f"{name}.conv1.bias"], stride=2)
        grid = torch.conv2d(gelu(grid), w[f"{name}.conv2.weight"], padding=1, groups=dim)
        grid = layer_norm(w, f"{name}.norm", grid.permute(0, 2, 3, 1), HEAD_EPS).permute(0, 3, 1, 2)
    query = pooled / pooled.norm(dim=-1, keepdim=True)
    for i in (0, 2, 4):
        query = linear(w, f"head.mask_head.{i}", query if i == 0 else gelu(query))
    logits = torch.einsum("bc,bchw->bhw", query, grid)
    size = (spec.image_size, spec.image_size)
    return torch.nn.functional.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def published_loss(
    logits: Tensor, target: Tensor, patches: Tensor, text: Tensor, *, temperature: float, rows: bool
) -> Tensor:
    """0.5 Dice + 0.5 BCE + 0.1 contrast; `rows`: Dice per image row with row 0 left out, as published."""
    p = torch.sigmoid(logits)
    dice = []
    for b in range(len(logits)):
        smooth = 1e-5 if rows else 1.0
        planes = zip(p[b].unbind()[1:], target[b].unbind()[1:], strict=True) if rows else [(p[b], target[b])]
        for a, t in planes:
            dice.append(1 - (2 * (a * t).sum() + smooth) / (a.sum() + t.sum() + smooth))
    bce = -(target * torch.log(p) + (1 - target) * torch.log(1 - p)).mean()
    mean = (patches / patches.norm(dim=-1, keepdim=True)).mean(1)
    with torch.no_grad():
        likeness = text @ text.T / temperature
        soft = torch.softmax(likeness / likeness.norm(dim=-1, keepdim=True), -1)
    to_text = -(soft * torch.log_softmax(mean @ text.T / temperature, -1)).sum(-1).mean()
    to_image = -(soft.T * torch.log_softmax(text @ mean.T / temperature, -1)).sum(-1).mean()
    return 0.5 * torch.stack(dice).mean() + 0.5 * bce + 0.1 * (to_text + to_image) / 2
