"""How unsure a prediction is: entropies of samples of one pixel's probability, by running sums.

    PE = H(mean p)      predictive entropy: all of the uncertainty
    EE = mean H(p)      expected entropy: what every sample agrees is unclear
    MI = PE - EE >= 0   mutual information: what the samples disagree on (arXiv 1112.5745, 1703.02910)

H(p) = -p ln p - (1-p) ln(1-p), divided by ln 2, so that all three lie in 0..1.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def binary_entropy(p: Tensor) -> Tensor:
    """H(p) / ln 2 of probabilities in 0..1, any shape; exactly 0 at 0 and at 1."""
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / math.log(2)


@dataclass(frozen=True)
class Scores:
    """Pixel maps [H, W] float32. Entropies in 0..1, variance of p in 0..0.25."""

    probability: Tensor
    predictive_entropy: Tensor
    expected_entropy: Tensor
    mutual_information: Tensor
    variance: Tensor


class StreamingScores:
    """Takes samples as they come; memory does not grow with their number."""

    def __init__(self) -> None:
        self._count = 0
        self._first = torch.empty(0)
        self._sums = torch.empty(0)
        """[3, H, W] of p - first, its square, and H(p): the shift keeps the variance of close samples exact."""

    def add(self, p: Tensor) -> None:
        """Take n samples of the probability map, [n, H, W] in 0..1. Raises ValueError on anything else."""
        p = p.float()
        if p.ndim != 3 or not len(p):
            raise ValueError(f"samples must have shape (n, H, W) with n >= 1, got {tuple(p.shape)}")
        if not bool(((p >= 0) & (p <= 1)).all()):  # NaN fails too
            raise ValueError("samples must be probabilities in 0..1, got others or NaN")
        if not self._count:
            self._first = p[0].clone()
            self._sums = p.new_zeros((3, *p.shape[1:]))
        shifted = p - self._first
        self._sums += torch.stack([shifted.sum(0), shifted.square().sum(0), binary_entropy(p).sum(0)])
        self._count += len(p)

    def result(self) -> Scores:
        """The maps over all samples so far. Raises ValueError before the first."""
        if not self._count:
            raise ValueError("there are no scores before the first sample")
        shift, square, entropy = self._sums / self._count
        mean = (self._first + shift).clamp(0, 1)
        total = binary_entropy(mean)
        # Jensen's inequality holds of the numbers, not of their float32 roundings.
        expected = torch.minimum(entropy, total)
        variance = (square - shift.square()).clamp_min(0)
        return Scores(mean, total, expected, total - expected, variance)
