"""Random shapes and textures that phantoms are made of. All chance comes from the generator handed in."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
"""[H, W] of anything."""
Mask = NDArray[np.bool_]
"""[H, W]"""
_SPREAD = 0.69
"""Standard deviation of white noise after a cubic B-spline in one direction, about."""
_ANGLES = np.linspace(-np.pi, np.pi, 129)


@dataclass(frozen=True)
class Canvas:
    """The pixels of an image. Lengths are shares of the shorter side."""

    height: int
    width: int

    @property
    def unit(self) -> int:
        """Pixels of the length 1."""
        return min(self.height, self.width)

    @property
    def bottom(self) -> float:
        """y of the lower border; the upper one is at 0."""
        return self.height / self.unit

    @property
    def right(self) -> float:
        """x of the right border; the left one is at 0."""
        return self.width / self.unit

    @cached_property
    def y(self) -> Field:
        """[H, 1]"""
        return ((np.arange(self.height, dtype=np.float32) + 0.5) / np.float32(self.unit))[:, None]

    @cached_property
    def x(self) -> Field:
        """[1, W]"""
        return ((np.arange(self.width, dtype=np.float32) + 0.5) / np.float32(self.unit))[None, :]

    def empty(self) -> Mask:
        """Nothing of the image."""
        return np.zeros((self.height, self.width), dtype=np.bool_)


@dataclass(frozen=True)
class Scene:
    """An image and what is in it."""

    image: NDArray[np.uint8]
    """RGB [H, W, 3]"""
    parts: dict[str, Mask]
    """Key of `words.PARTS` -> where it is. A finding that could be there and is not has an empty mask."""


@lru_cache(maxsize=512)
def spline(pixels: int, cells: int) -> Field:
    """[pixels, cells + 3]: each pixel's value from the knots of a uniform cubic B-spline."""
    at = (np.arange(pixels) + 0.5) / pixels * cells
    base = np.floor(at).astype(int)
    f = at - base
    weights = ((1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3)
    matrix = np.zeros((pixels, cells + 3), dtype=np.float32)
    for k, weight in enumerate(weights):
        matrix[np.arange(pixels), base + k] = weight / 6
    return matrix


def smooth(canvas: Canvas, rng: Generator, cells: float, across: float | None = None) -> Field:
    """Smooth noise of mean 0 and deviation about 1, `cells` bumps high and `across` bumps wide per length 1."""
    rows = max(1, round(cells * canvas.bottom))
    columns = max(1, round((across or cells) * canvas.right))
    knots = rng.standard_normal((rows + 3, columns + 3), dtype=np.float32)
    noise: Field = spline(canvas.height, rows) @ knots @ spline(canvas.width, columns).T
    return noise / np.float32(_SPREAD**2)


def wave(canvas: Canvas, rng: Generator, cells: int) -> Field:
    """[1, W] of smooth noise of deviation about 1: the course of a layer."""
    noise: Field = spline(canvas.width, cells) @ rng.standard_normal(cells + 3, dtype=np.float32)
    return noise[None, :] / np.float32(_SPREAD)


def speckle(canvas: Canvas, rng: Generator, cells: float, across: float, *, looks: int) -> Field:
    """Decibels by which interference changes an echo, 0 dB on average power; `looks` images are compounded."""
    power = sum(smooth(canvas, rng, cells, across) ** 2 for _ in range(2 * looks)) / np.float32(2 * looks)
    decibels: Field = np.float32(10) * np.log10(power + np.float32(1e-2))
    return decibels


def blob(
    canvas: Canvas,
    rng: Generator,
    *,
    centre: tuple[float, float],
    radius: float,
    aspect: float = 1.0,
    angle: float = 0.0,
    lobes: float = 0.0,
    spikes: float = 0.0,
) -> Field:
    """How deep a pixel lies in a random closed shape: 1 at the centre, 0 on the border, below 0 outside.

    `centre` (y, x); `aspect` width over height; `angle` radians; `lobes` and `spikes` are the amplitudes of
    a few and of many bumps of the border, as shares of the radius.
    """
    y, x = canvas.y - np.float32(centre[0]), canvas.x - np.float32(centre[1])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u = (x * cos + y * sin) / np.float32(radius * aspect**0.5)
    v = (y * cos - x * sin) / np.float32(radius / aspect**0.5)
    border = np.ones_like(_ANGLES)
    for first, last, amplitude in ((2, 5, lobes), (6, 13, spikes)):
        if amplitude:
            orders = np.arange(first, last + 1)[:, None]
            sizes = rng.standard_normal(len(orders)) * amplitude / len(orders) ** 0.5
            border += sizes @ np.cos(orders * _ANGLES + rng.uniform(0, 2 * np.pi, orders.shape))
    reach = np.interp(np.arctan2(v, u), _ANGLES, np.maximum(border, 0.25)).astype(np.float32)
    depth: Field = 1 - np.sqrt(u * u + v * v) / reach
    return depth


def fade(depth: Field, softness: float) -> Field:
    """From 0 to 1 over a depth of +- softness: a border as a scanner blurs it."""
    faded: Field = np.clip(depth / np.float32(2 * softness) + np.float32(0.5), 0, 1)
    return faded


def fill(image: Field, value: Field | float, weight: Field) -> None:
    """Lay `value` over the image [H, W] where weight is 1, in place."""
    image += (value - image) * weight


def spot(canvas: Canvas, rng: Generator, margin: float = 0.2) -> tuple[float, float]:
    """A point (y, x) at least `margin` of each side off the border."""
    y, x = rng.uniform(margin, 1 - margin, 2)
    return float(y * canvas.bottom), float(x * canvas.right)


def grey(image: Field) -> NDArray[np.uint8]:
    """[H, W] in 0..1 -> RGB [H, W, 3] uint8."""
    levels = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    return np.repeat(levels[:, :, None], 3, axis=2)
