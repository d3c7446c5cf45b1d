"""A map of uncertainty as bytes (a small grey PNG, the form in the store) and as numbers (0..1)."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskloop_learner.pool.images import ImageError, decode_image

LONGEST = 256
"""Pixels of a kept map's longer side: more than the models themselves see an image with."""
Map = NDArray[np.float32]
"""h x w, entropies in 0..1."""


class MapError(ValueError):
    """A map that cannot be kept or read; the message says what is wrong with it."""


def encode_map(entropy: NDArray[np.floating], *, width: int, height: int) -> bytes:
    """The predictive entropy of every pixel, for looking at: equal maps give equal bytes.

    entropy: [h, w] in 0..1 over the whole image, at any resolution; width, height: the image's, in pixels, at least 1.
    Returns an 8-bit one-channel PNG, 0 for no entropy and 255 for 1, with the image's shape and at most `LONGEST`
    pixels on the longer side. Raises MapError for another shape, for NaN, and for values outside 0..1.
    """
    if entropy.ndim != 2 or not entropy.size:
        raise MapError(f"a map must be h x w with at least one pixel, got shape {entropy.shape!r}")
    if width < 1 or height < 1:
        raise MapError(f"an image has at least one pixel, got {width!r} x {height!r}")
    low, high = float(entropy.min()), float(entropy.max())
    if not (low >= -1e-6 and high <= 1 + 1e-6):  # NaN fails too
        raise MapError(f"entropies must be in 0..1, got values from {low!r} to {high!r}; divide them by ln 2")
    drawn = Image.fromarray(entropy.astype(np.float32)).resize(map_size(width, height), Image.Resampling.BILINEAR)
    grey = (np.asarray(drawn).clip(0, 1) * 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def decode_map(data: bytes, *, name: str = "map") -> Map:
    """The entropies of a kept map, float32 [h, w] in 0..1. Raises MapError for anything but a grey picture."""
    try:
        image = decode_image(data, name=name)
    except ImageError as error:
        raise MapError(str(error)) from error
    if image.mode != "L":
        raise MapError(f"{name}: a map is an 8-bit grey PNG, got mode {image.mode!r}")
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def map_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of the map of an image: its shape, at most `LONGEST` on the longer side, never enlarged."""
    scale = min(1.0, LONGEST / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
