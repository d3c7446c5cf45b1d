"""A mask as bytes (0/255 PNG, the form in the store) and as pixels (bool), and its tidying."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from maskloop_learner.pool.images import ImageError, decode_image

Mask = NDArray[np.bool_]
"""H x W, True inside."""

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


class MaskError(ValueError):
    """A mask that cannot be read; the message says what is wrong and what to do."""


def encode_mask(mask: Mask) -> bytes:
    """A mask as PNG: equal masks give equal bytes, so that a digest names the mask.

    mask: bool H x W, at least one pixel. Returns an 8-bit one-channel PNG of 0 and 255.
    Raises MaskError for another type or shape.
    """
    if mask.dtype != np.bool_ or mask.ndim != 2 or mask.size == 0:
        raise MaskError(
            f"a mask must be bool H x W with at least one pixel, got {mask.dtype} {mask.shape}; "
            "compare with a threshold first, e.g. probability > 0.5"
        )
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def decode_mask(data: bytes, *, name: str = "mask") -> Mask:
    """The pixels of a mask file: ours, or a person's (grey, palette or colour; 0/255, 0/1 or anti-aliased).

    Returns bool H x W: brighter than 127, or non-zero where the brightest value is 1.
    Raises MaskError for a file that is no image, or one that marks by transparency.
    """
    try:
        image = decode_image(data, name=name)
    except ImageError as error:
        raise MaskError(str(error)) from error
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise MaskError(f"{name}: marks by transparency; save it as grey, 255 inside and 0 outside")
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
    else:
        grey = np.asarray(image.convert("L"))
    return np.asarray(grey > 0 if grey.max() == 1 else grey > 127)


def clean_mask(mask: Mask, *, min_speck_area: int, max_hole_area: int) -> Mask:
    """Take specks away and fill holes.

    Parts (joined by sides or corners) of fewer than min_speck_area pixels go, then holes (background that
    is not joined to the border by sides) of fewer than max_hole_area pixels are filled. 0 means: none.
    Returns a new bool H x W; cleaning twice changes nothing more.
    """
    cleaned = mask.copy()
    if min_speck_area > 1:
        parts, count = ndimage.label(cleaned, structure=_EIGHT_NEIGHBOURS)
        areas = np.bincount(parts.ravel(), minlength=count + 1)
        cleaned &= (areas >= min_speck_area)[parts]
    if max_hole_area > 1:
        gaps, count = ndimage.label(~cleaned)
        fill = np.bincount(gaps.ravel(), minlength=count + 1) < max_hole_area
        for border in (gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]):
            fill[border] = False
        fill[0] = False  # number 0 is the mask itself
        cleaned |= fill[gaps]
    return cleaned
