"""The pixels of an item: its image and its mask, of one size."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from maskloop_learner.data import DataError
from maskloop_learner.data.layout import Item
from maskloop_learner.pool.images import ImageError, open_image
from maskloop_learner.pool.masks import Mask, MaskError, decode_mask

SHAPE_TOLERANCE = 0.01
"""By which share the sides' ratios of image and mask may differ."""


class ItemError(DataError):
    """An image or mask that cannot be used; the message names the file."""


def open_item(item: Item) -> tuple[NDArray[np.uint8], Mask]:
    """The image, RGB [H, W, 3], and its mask, [H, W] bool: brighter than 127.

    A mask of another size but the image's shape is scaled to it, to the nearest pixel. Raises ItemError when a
    file cannot be read, or when the two are of different shapes.
    """
    try:
        image = open_image(item.image.read_bytes(), name=str(item.image))
        mask = decode_mask(item.mask.read_bytes(), name=str(item.mask))
    except (ImageError, MaskError, OSError) as error:
        raise ItemError(str(error)) from error
    return image, fit_mask(mask, image.shape[:2], name=str(item.mask))


def fit_mask(mask: Mask, size: tuple[int, ...], *, name: str) -> Mask:
    """The mask at the image's size (height, width). Raises ItemError when scaling would distort it."""
    height, width = size
    if mask.shape == (height, width):
        return mask
    if not similar(mask.shape, (height, width)):
        raise ItemError(
            f"{name}: the mask has {mask.shape[1]} x {mask.shape[0]} pixels, its image {width} x {height}, which is "
            "another shape; export the mask again"
        )
    return np.asarray(Pillow.fromarray(mask).resize((width, height), Pillow.Resampling.NEAREST))


def similar(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether two sizes (height, width) have the same shape, to within a rounding to pixels."""
    wide, tall = first[1] * second[0], first[0] * second[1]
    return abs(wide - tall) <= SHAPE_TOLERANCE * max(wide, tall)
