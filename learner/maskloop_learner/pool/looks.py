"""What an image looks like, in a few bytes: enough to find the same picture again after it was saved anew."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from maskloop_learner.pool.images import as_grey

SIDE = 16
"""Of the thumbnail, in pixels."""
LEAST_CONTRAST = 4.0
"""Standard deviation, of 255, below which a picture is blank: the empty slices of two patients are alike, and say
nothing of either."""


@dataclass(frozen=True)
class Look:
    """Two descriptions of one picture; both are "" for a blank one, which resembles nothing."""

    phash: str
    """64 bits in hex: whether each of 9 x 8 cells is darker than the one right of it (dHash)."""
    thumbnail: str
    """16 x 16 grey values in hex, stretched to 0..255."""


BLANK = Look("", "")


def look_at(image: Pillow.Image) -> Look:
    """Describe a decoded picture of any mode and size. Takes a few milliseconds."""
    grey = as_grey(image)
    small = _shrink(grey, SIDE, SIDE)
    if small.std() < LEAST_CONTRAST:
        return BLANK
    cells = _shrink(grey, 9, 8)
    bits = np.packbits((cells[:, 1:] > cells[:, :-1]).ravel())
    stretched = (small - small.min()) * (255 / (small.max() - small.min()))
    return Look(bits.tobytes().hex(), stretched.round().astype(np.uint8).tobytes().hex())


def _shrink(grey: Pillow.Image, width: int, height: int) -> NDArray[np.float64]:
    small = grey.resize((width, height), Pillow.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(small, np.float64)
