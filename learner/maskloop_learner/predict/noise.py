"""The chance in a prediction, drawn so that the same question always has the same answer."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

Shapes = Sequence[tuple[tuple[int, int], tuple[int, int]]]


def sample_seed(*, version: str, image_digest: str, prompt_digest: str, sample: int) -> int:
    """63 bits that depend on these four only."""
    # The separator keeps ("ab", "c") and ("a", "bc") apart.
    key = "\x00".join((version, image_digest, prompt_digest, str(sample)))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def digest_text(text: str) -> str:
    """SHA-256 in hex of a prompt."""
    return hashlib.sha256(text.encode()).hexdigest()


def draw_noise(shapes: Shapes, seeds: Sequence[int], device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Standard normal noise per adapter, [len(seeds), *shape] each.

    One generator per sample, always on the CPU: a sample's noise depends neither on the device nor on the
    samples drawn beside it.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(shape: tuple[int, int]) -> Tensor:
        return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)

    return [(draw(text), draw(vision)) for text, vision in shapes]
