"""What the tests of import and export share: pictures and masks on disk, and what a source says of them."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from maskloop_backend.labelstudio.controls import Control, Interface
from maskloop_backend.transfer import Refused
from maskloop_backend.transfer.choosing import Request, choose_source
from maskloop_backend.transfer.converting import Options
from maskloop_backend.transfer.pictures import Limits, Picture, open_pictures
from maskloop_backend.transfer.sources import Source
from maskloop_learner.pool.masks import Mask

LIMITS = Limits(megabytes=50, megapixels=50)
SIZE = (16, 24)
"""Height and width."""


def interface(*labels: str) -> Interface:
    """Brush masks of these labels on one image."""
    return Interface((Control("brush", "mask", "image", "image", labels or ("Liver", "Tumor")),))


def blob(seed: int, size: tuple[int, int] = SIZE) -> Mask:
    """A mask of ragged shape, never empty."""
    mask: Mask = np.random.default_rng(seed).random(size) < 0.4
    mask[seed % size[0], seed % size[1]] = True
    return mask


def noise(seed: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """Grey pixels, another picture for every seed."""
    return np.random.default_rng(1000 + seed).integers(0, 256, size, dtype=np.uint8)


def save(path: Path, pixels: NDArray[np.uint8] | Mask) -> Path:
    """Save grey or RGB pixels, or a mask as 0 and 255, by the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(pixels.astype(np.uint8) * 255 if pixels.dtype == np.bool_ else pixels).save(path)
    return path


def png(pixels: NDArray[np.uint8]) -> bytes:
    """The pixels as a PNG file."""
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def source_of(request: Request, labels: Interface | None = None) -> Source:
    """What `maskloop import` would take."""
    return choose_source(request, interface=labels or interface(), data_key="image", options=Options())


Read = dict[str, tuple[Picture, Mapping[str, Mask] | None]]


def read_all(source: Source) -> tuple[Read, dict[str, str]]:
    """Every picture by name with its masks, and file -> reason of what is refused."""
    read: Read = {}
    refused = dict(source.refused)
    for entry in source.entries:
        if entry.path is None:
            continue
        try:
            for picture, masks in entry.label(open_pictures(entry.path, entry.name, limits=LIMITS, options=Options())):
                read[picture.name] = picture, masks
        except Refused as error:
            refused[entry.name] = str(error)
    return read, refused


def drawn(masks: Mapping[str, Mask] | None) -> dict[str, list[list[bool]]] | None:
    """Masks that have a pixel, fit to be compared."""
    return None if masks is None else {label: mask.tolist() for label, mask in masks.items() if mask.any()}
