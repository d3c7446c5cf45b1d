"""What a scanner does to a slice: contrast, resolution, noise and shading, from hardly visible to hard."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


@dataclass(frozen=True)
class Scan:
    """The variation of one slice; the same values give the same pixels."""

    difficulty: float
    """0..1; drives the other values."""
    gamma: float
    """Exponent of the intensities: above 1 darkens grey matter, below 1 brings it near white matter."""
    brightness: float
    """Grey value of white matter, 0..1 of the 8-bit range."""
    thickness_mm: int
    """Slice thickness, odd."""
    pixel_mm: float
    """Acquired in-plane resolution; the picture is interpolated back to 1 mm."""
    noise: float
    """Standard deviation of the noise in both channels, as a share of white matter."""
    shading: float
    """Largest deviation of the coil's sensitivity from 1."""
    seed: int
    """Of noise and shading."""


def draw_scans(count: int, rng: np.random.Generator, *, hardest: float = 1.0) -> list[Scan]:
    """Variations whose difficulties are spread evenly over 0..hardest (at most 1), in random order."""
    scans = []
    for difficulty in rng.permutation((np.arange(count) + 0.5) / count * hardest).tolist():
        # the parts vary around the difficulty: one slice is noisy, another blurred, some are both
        noise, blur, shading, contrast = np.clip(difficulty + rng.normal(0, 0.25, 4), 0, 1).tolist()
        scans.append(
            Scan(
                difficulty=round(difficulty, 3),
                gamma=round(float(np.exp(rng.choice((-1, 1)) * 0.45 * contrast)), 3),
                brightness=round(float(rng.uniform(0.55, 0.8)), 3),
                thickness_mm=1 + 2 * int(blur > 0.5) + 2 * int(blur > 0.85),
                pixel_mm=round(1 + 1.2 * blur, 3),
                noise=round(0.01 + 0.09 * noise**1.5, 4),
                shading=round(0.05 + 0.4 * shading, 3),
                seed=int(rng.integers(2**31)),
            )
        )
    return scans


def scan_slice(plane: NDArray[np.float32], scan: Scan) -> NDArray[np.uint8]:
    """The slice as that scanner gives it.

    plane: signal 0..1, one pixel per mm, white matter near 0.87. Returns uint8 of the same shape.
    """
    rng = np.random.default_rng(scan.seed)
    signal = (plane / 0.87).astype(np.float64) ** scan.gamma * _draw_shading(plane.shape, scan, rng)
    # the acquired grid is coarser; its noise is interpolated with the picture, which makes it grainy
    blurred = ndimage.gaussian_filter(signal, 0.42 * np.sqrt(scan.pixel_mm**2 - 1))
    grid = [max(8, round(size / scan.pixel_mm)) for size in plane.shape]
    acquired = _resize(blurred, grid)
    real = acquired + rng.normal(0, scan.noise, acquired.shape)
    imaginary = rng.normal(0, scan.noise, acquired.shape)
    shown = _resize(np.hypot(real, imaginary), list(plane.shape))
    return np.asarray(np.clip(shown * scan.brightness * 255, 0, 255).round(), dtype=np.uint8)


def _draw_shading(shape: tuple[int, ...], scan: Scan, rng: np.random.Generator) -> NDArray[np.float64]:
    """A smooth field around 1 whose largest deviation is scan.shading."""
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    terms = (rows, columns, rows * columns, rows**2 - 0.4, columns**2 - 0.4)
    field = sum(weight * term for weight, term in zip(rng.normal(size=len(terms)), terms, strict=True))
    return np.asarray(1 + scan.shading * field / np.abs(field).max(), dtype=np.float64)


def _resize(plane: NDArray[np.float64], shape: list[int]) -> NDArray[np.float64]:
    """Linear interpolation onto another grid over the same area."""
    if shape == list(plane.shape):
        return plane
    factors = [new / old for new, old in zip(shape, plane.shape, strict=True)]
    return np.asarray(ndimage.zoom(plane, factors, order=1, mode="nearest", grid_mode=True))
