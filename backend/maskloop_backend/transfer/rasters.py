"""Mask files of people: black and white in any of its forms, or one number for each label."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskloop_backend.transfer import Refused
from maskloop_learner.pool.images import ImageError, decode_image
from maskloop_learner.pool.masks import Mask
from maskloop_learner.settings import get_settings

MOST_VALUES = 8
"""Numbers that a message lists."""


def read_mask(data: bytes, name: str) -> Mask:
    """The pixels of a black and white mask file, bool H x W, turned as an image would be shown.

    Two values: all that is not 0 is inside. More (edges are smoothed): what is brighter than 127; of colours the
    brightest channel. Raises Refused for what is no such mask: one with transparency, or with numbers of labels.
    """
    grey = _grey(data, name)
    values = np.unique(grey)
    top = int(values[-1])
    if top == 1 or (len(values) == 2 and values[0] == 0):
        return np.asarray(grey > 0)
    limit = 127 if grey.dtype == np.uint8 else 127 << 8 | 0xFF
    mask = np.asarray(grey > limit)
    if top and not mask.any():
        raise Refused(
            f"{name}: has the values {_listed(values)}, which is neither black and white nor brighter than "
            f"half; if these are numbers of labels, give --values {top}=LABEL"
        )
    return mask


def read_values(data: bytes, name: str, labels: Mapping[int, str]) -> dict[str, Mask]:
    """Masks of a file whose pixels are numbers of labels (grey or palette; 0 is background).

    labels: number -> label; several numbers may be one label. Returns every label -> bool H x W. Raises Refused
    for a number without label, and for colours.
    """
    numbers = _numbers(data, name)
    there = np.unique(numbers)
    unknown = [int(value) for value in there if value and int(value) not in labels]
    if unknown:
        raise Refused(
            f"{name}: has the value {_listed(np.array(unknown))}, which --values gives no label; "
            f"add {unknown[0]}=LABEL, or {unknown[0]}= to leave it out"
        )
    masks: dict[str, Mask] = {}
    for value, label in labels.items():
        if label:
            inside = np.asarray(numbers == value)
            masks[label] = np.asarray(masks[label] | inside) if label in masks else inside
    return masks


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises Refused when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"{path.name}: cannot be read ({error.strerror or error})") from error


def _grey(data: bytes, name: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
    image = _decode(data, name)
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise Refused(f"{name}: marks by transparency; save it as grey, 255 inside and 0 outside")
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    brightest: NDArray[np.uint8] = np.asarray(image.convert("RGB")).max(axis=2)
    return brightest


def _numbers(data: bytes, name: str) -> NDArray[np.integer]:
    image = _decode(data, name)
    if image.mode in ("P", "L", "1") or image.mode.startswith("I"):
        return np.asarray(image).astype(np.int64)
    pixels = np.asarray(image.convert("RGB"))
    if (pixels != pixels[:, :, :1]).any():
        raise Refused(f"{name}: has colours, so its pixels are no numbers; save it with a palette or as grey")
    return pixels[:, :, 0].astype(np.int64)


def _decode(data: bytes, name: str) -> Image.Image:
    try:
        return decode_image(data, name=name, max_megapixels=get_settings().max_image_megapixels)
    except ImageError as error:
        raise Refused(str(error)) from error


def _listed(values: NDArray[Any]) -> str:
    shown = ", ".join(str(int(value)) for value in values[:MOST_VALUES])
    return shown + (", ..." if len(values) > MOST_VALUES else "")
