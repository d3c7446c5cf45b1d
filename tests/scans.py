"""Pictures like scans, as files of several kinds, and smooth masks on them."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

Mask = NDArray[np.bool_]
ORIENTATION, TURNED = 0x0112, 6
"""The EXIF tag, and its value for an image that is shown a quarter turn to the right."""


def scan(seed: int, width: int, height: int) -> Pillow.Image:
    """A grey picture with a bright body, darker organs and noise, like a slice."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    picture = rng.normal(20, 6, (height, width))
    for size, light in ((0.42, 90), (0.2, 60), (0.1, -50)):
        y, x = height * rng.uniform(0.45, 0.55), width * rng.uniform(0.45, 0.55)
        picture += light * (((rows - y) / (size * height)) ** 2 + ((columns - x) / (size * width)) ** 2 < 1)
    return Pillow.fromarray(picture.clip(0, 255).astype(np.uint8))


def scans() -> dict[str, bytes]:
    """Three files: not square with a blank and an umlaut in its name, colour, and a JPEG turned by its EXIF tag."""
    exif = Pillow.Exif()
    exif[ORIENTATION] = TURNED
    return {
        "schädel 1.png": _encoded(scan(1, 200, 136), "PNG"),
        "slice-2.png": _encoded(scan(2, 128, 160).convert("RGB"), "PNG"),
        "turned-3.jpg": _encoded(scan(3, 150, 110), "JPEG", quality=90, exif=exif),
    }


def _encoded(image: Pillow.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


SHOWN = {"schädel 1.png": (136, 200), "slice-2.png": (160, 128), "turned-3.jpg": (150, 110)}
"""File -> height and width as shown."""


def smooth_mask(seed: int, height: int, width: int) -> Mask:
    """A rounded, slightly wavy blob; another one for every seed."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] + 0.5
    y, x = rows - height * rng.uniform(0.4, 0.6), columns - width * rng.uniform(0.4, 0.6)
    angle = np.arctan2(y, x)
    edge = min(height, width) * rng.uniform(0.24, 0.34) * (1 + 0.12 * np.sin(2 * angle + rng.uniform(0, 6)))
    inside: Mask = np.hypot(y, x) < edge
    return inside
