"""Probabilistic vision-language (PVL) adapters: where text and image meet, and where chance comes in.

Keys and values are Gaussians. A key's variance lowers the attention it gets; values are sampled. All that
precedes the sampling is `Attended`, so that it is computed once however many samples follow.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskloop_learner.model.blocks import affine, full, normed

VARIANCE_FLOOR = 1e-6
# The gradient of sqrt at 0 is infinite, and infinity times the zero gradient of Q^2 at Q = 0 is NaN.
PENALTY_FLOOR = 1e-12


class Attended(NamedTuple):
    """A cross attention up to its first random operation. Batches of 1 stand for any number of samples."""

    query: Tensor
    """[B, Tq, C]"""
    weights: Tensor
    """[B, Tq, Tk], rows sum to 1."""
    mean: Tensor
    """[B, Tk, C], of the values."""
    deviation: Tensor
    """[B, Tk, C], of the values; at least 1e-3."""


class ProbabilisticCrossAttention(nn.Module):
    """Single-head cross attention over Gaussian keys and values, with a gated residual.

    Padding among the keys is not masked, as published.
    """

    def __init__(self, dim: int, *, beta: float, gate_init: float) -> None:
        super().__init__()
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, 2 * dim)
        self.v_proj = nn.Linear(dim, 2 * dim)
        self.out_proj = nn.Linear(dim, dim)
        self.norm_k = nn.LayerNorm(dim)
        self.norm_v = nn.LayerNorm(dim)
        self.gate = nn.Parameter(torch.tensor(gate_init))
        self.beta = beta

    def attend(self, query: Tensor, context: Tensor) -> Attended:
        """All before the sampling. `query` [B, Tq, C], `context` [B, Tk, C]."""
        dim = query.shape[-1]
        q = full(affine(query, self.q_proj))
        key_mean, key_spread = full(affine(context, self.k_proj)).chunk(2, dim=-1)
        value_mean, value_spread = full(affine(context, self.v_proj)).chunk(2, dim=-1)
        key_variance = F.softplus(key_spread) + VARIANCE_FLOOR
        scores = q @ normed(key_mean, self.norm_k).transpose(1, 2) / dim**0.5
        doubt = q.square() @ key_variance.transpose(1, 2) / dim
        scores = full(scores) - self.beta * full(doubt).clamp_min(PENALTY_FLOOR).sqrt()
        deviation = (F.softplus(value_spread) + VARIANCE_FLOOR).sqrt()
        return Attended(query, scores.softmax(dim=-1), normed(value_mean, self.norm_v), deviation)

    def mix(self, attended: Attended, noise: Tensor | None) -> Tensor:
        """Sample the values and mix them into the query. `noise` [n, Tk, C], standard normal -> [n, Tq, C].

        Without noise the values are their means.
        """
        values = attended.mean if noise is None else attended.mean + attended.deviation * noise
        dtype = self.out_proj.weight.dtype
        answer = affine(attended.weights.to(dtype) @ values.to(dtype), self.out_proj)
        gate = self.gate.sigmoid()
        return gate * answer + (1 - gate) * attended.query


class TwoWay(nn.Module):
    """Image tokens read the text, then the text reads the image tokens that resulted."""

    def __init__(self, dim: int, *, beta: float, gate_init: float) -> None:
        super().__init__()
        self.cross_attn_img_to_txt = ProbabilisticCrossAttention(dim, beta=beta, gate_init=gate_init)
        self.cross_attn_txt_to_img = ProbabilisticCrossAttention(dim, beta=beta, gate_init=gate_init)


class Meeting(NamedTuple):
    """An adapter up to its first random operation."""

    attended: Attended
    """Image tokens over text tokens."""
    text: Tensor
    """[B, Tt, C] text tokens, projected down."""


class PVLAdapter(nn.Module):
    """One adapter. Its outputs are added to the tokens of both towers."""

    def __init__(self, *, vision_width: int, text_width: int, dim: int, beta: float, gate_init: float) -> None:
        super().__init__()
        self.proj_vis_down = nn.Sequential(nn.Linear(vision_width, dim, bias=False))
        self.proj_txt_down = nn.Linear(text_width, dim, bias=False)
        self.proj_vis_up = nn.Linear(dim, vision_width, bias=False)
        self.proj_txt_up = nn.Linear(dim, text_width, bias=False)
        self.two_way = TwoWay(dim, beta=beta, gate_init=gate_init)

    def meet(self, vision: Tensor, text: Tensor) -> Meeting:
        """All before the sampling. `vision` [B, Tv, Wv], `text` [B, Tt, Wt]."""
        down = cast(nn.Linear, self.proj_vis_down[0])
        query, text = full(affine(vision, down)), full(affine(text, self.proj_txt_down))
        return Meeting(self.two_way.cross_attn_img_to_txt.attend(query, text), text)

    def part(self, meeting: Meeting, text_noise: Tensor | None, vision_noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sample; what to add to the vision tokens [n, Tv, Wv] and to the text tokens [n, Tt, Wt].

        `text_noise` [n, Tt, C] and `vision_noise` [n, Tv, C] are standard normal; None: values are their means.
        """
        vision = self.two_way.cross_attn_img_to_txt.mix(meeting.attended, text_noise)
        reader = self.two_way.cross_attn_txt_to_img
        text = reader.mix(reader.attend(meeting.text.expand(len(vision), -1, -1), vision), vision_noise)
        return affine(vision, self.proj_vis_up), affine(text, self.proj_txt_up)
