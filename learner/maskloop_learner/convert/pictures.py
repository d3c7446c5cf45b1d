"""A picture that a browser shows, and where it came from."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Picture:
    """One image file: its bytes, its size in pixels as shown, and what is known of its origin."""

    name: str
    """A file name whose suffix a browser shows."""
    data: bytes
    width: int
    height: int
    origin: dict[str, Any]
    """Numbers, fixed terms and checksums, fit for JSON; never who was imaged, when or where."""


def draw_picture(name: str, pixels: NDArray[np.uint8], origin: dict[str, Any]) -> Picture:
    """A PNG of grey [H, W] or RGB [H, W, 3] pixels and of nothing else: no text, no profile, no resolution."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return Picture(name, buffer.getvalue(), pixels.shape[1], pixels.shape[0], origin)


def frame_name(stem: str, number: int, count: int, *, volume: int = 1, volumes: int = 1) -> str:
    """`stem.png`, of several frames `stem-07.png`, of several volumes `stem-2-07.png`; both count from 1.

    Numbers have as many digits as their count, so that names sort as frames do.
    """
    parts = [stem]
    for one, all_of in ((volume, volumes), (number, count)):
        if all_of > 1:
            parts.append(f"{one:0{len(str(all_of))}d}")
    return "-".join(parts) + ".png"
