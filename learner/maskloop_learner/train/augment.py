"""Images as another scanner or another position might have shown them."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges of random changes; 0 or False turns one off."""

    rotation: float = 0.1
    """Radians, either way."""
    scale: float = 0.08
    """Share of the size, either way."""
    shift: float = 0.04
    """Share of the image's side, either way."""
    flip: bool = False
    """Mirror left and right; off because prompts may name a side."""
    upend: bool = False
    """Mirror top and bottom."""
    outside: Literal["zeros", "reflection"] = "zeros"
    """What comes in where the image is turned away: black and unlabelled, or the image and its masks mirrored."""
    gamma: float = 0.2
    """Natural logarithm of the exponent, either way."""
    bias_field: float = 0.12
    """Natural logarithm of a smooth gain over the image, standard deviation."""
    noise: float = 0.03
    """Largest standard deviation of white noise; pixel values are 0..1."""
    speckle: float = 0.0
    """Largest standard deviation of noise that multiplies, a few pixels wide: that of ultrasound."""
    tint: float = 0.0
    """Natural logarithm of each colour's gain, standard deviation."""


def augment(images: Tensor, masks: Tensor, how: Augmentation, generator: Generator) -> tuple[Tensor, Tensor]:
    """Change each image at random and its masks alike.

    `images` [B, 3, S, S] and `masks` [B, L, S, S], float32 in 0..1 on the CPU; returns the same of both.
    """
    images, masks = move(images, masks, how, generator)
    return recolour(images, how, generator), masks


def move(images: Tensor, masks: Tensor, how: Augmentation, generator: Generator) -> tuple[Tensor, Tensor]:
    """Rotate, scale, shift and mirror."""
    n = len(images)
    turn, grow, right, down = (uniform(n, generator) for _ in range(4))
    angle, factor = turn * how.rotation, 1 + grow * how.scale
    cos, sin = angle.cos() * factor, angle.sin() * factor
    mirror, tumble = torch.ones(n), torch.ones(n)
    # What is off draws no numbers: it changes nothing of what the others draw.
    if how.flip:
        mirror = uniform(n, generator).sign()
    if how.upend:
        tumble = uniform(n, generator).sign()
    # Coordinates run from -1 to 1, so a share of the side is twice that number.
    rows = [
        torch.stack([cos * mirror, -sin * tumble, 2 * right * how.shift], dim=1),
        torch.stack([sin * mirror, cos * tumble, 2 * down * how.shift], dim=1),
    ]
    both = torch.cat([images, masks], dim=1)
    grid = F.affine_grid(torch.stack(rows, dim=1), list(both.shape), align_corners=False)
    moved = F.grid_sample(both, grid, mode="bilinear", padding_mode=how.outside, align_corners=False)
    return moved[:, : images.shape[1]], moved[:, images.shape[1] :]


def recolour(images: Tensor, how: Augmentation, generator: Generator) -> Tensor:
    """Gamma, gain and noise; without `tint` channels change alike, so grey stays grey."""
    n, _, height, width = images.shape
    exponent = (uniform(n, generator) * how.gamma).exp().view(n, 1, 1, 1)
    coarse = torch.randn((n, 1, 3, 3), generator=generator) * how.bias_field
    gain = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False).exp()
    strength = torch.rand((n, 1, 1, 1), generator=generator) * how.noise
    noise = torch.randn((n, 1, height, width), generator=generator)
    if how.speckle:
        grain = torch.randn((n, 1, height // 2, width // 2), generator=generator)
        grain = F.interpolate(grain, (height, width), mode="bilinear", align_corners=False)
        gain = gain * (1 + torch.rand((n, 1, 1, 1), generator=generator) * how.speckle * grain).clamp_min(0)
    if how.tint:
        gain = gain * (torch.randn((n, 3, 1, 1), generator=generator) * how.tint).exp()
    return (images.clamp_min(1e-6) ** exponent * gain + strength * noise).clamp(0, 1)


def uniform(n: int, generator: Generator) -> Tensor:
    """[n] in -1..1."""
    return torch.rand(n, generator=generator) * 2 - 1
