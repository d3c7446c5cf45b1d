"""Masks as Label Studio's bitmasks: a PNG in a data URL, black inside and transparent outside."""

import base64
import binascii
import io
import struct
from typing import Any

import numpy as np
from PIL import Image

from maskloop_learner.pool.images import ImageError, decode_image, sniff_format
from maskloop_learner.pool.masks import Mask

PREFIX = "data:image/png;base64,"
_SPARE = 1 << 16
"""Bytes that a PNG may have beside its pixels."""


class BitmaskError(ValueError):
    """A bitmask that marks no pixels of an image; the message says what is wrong."""


def encode_bitmask(mask: Mask) -> str:
    """The data URL of a mask: RGBA, black and opaque inside, transparent outside. Equal masks give equal text.

    mask: bool H x W. A page paints whatever is opaque, so a grey PNG would fill the whole image.
    """
    pixels = np.zeros((*mask.shape, 4), dtype=np.uint8)
    pixels[..., 3] = mask * np.uint8(255)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=6)
    return PREFIX + base64.b64encode(buffer.getvalue()).decode("ascii")


def decode_bitmask(url: Any, *, width: int, height: int) -> Mask:
    """The mask in the data URL of an image of width x height pixels: where it is more than half opaque.

    A PNG without transparency counts where it is brighter than 127, as masks of other tools do. The size is
    checked before anything is unpacked. Raises BitmaskError.
    """
    if not isinstance(url, str) or not url.startswith(PREFIX):
        got = f"{url[:40]!r}" if isinstance(url, str) else type(url).__name__
        raise BitmaskError(f"a bitmask is a PNG in a data URL ({PREFIX}...), got {got}")
    # 16 bits in four channels is the most a PNG has, and packing adds next to nothing
    if len(url) > (width * height * 8 + _SPARE) * 3 // 2:
        raise BitmaskError(f"the data URL has {len(url)} characters, too many for {width} x {height} pixels")
    try:
        data = base64.b64decode(url[len(PREFIX) :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise BitmaskError(f"the data URL is no base64: {error}") from error
    if sniff_format(data) != "PNG" or len(data) < 24:
        raise BitmaskError("the data URL holds no PNG")
    size = struct.unpack(">II", data[16:24])
    if size != (width, height):
        raise BitmaskError(f"the PNG has {size[0]} x {size[1]} pixels, the image has {width} x {height}")
    try:
        image = decode_image(data, name="the bitmask")
    except ImageError as error:
        raise BitmaskError(str(error)) from error
    if image.has_transparency_data:
        return np.asarray(image.convert("RGBA").getchannel("A")) > 127
    if image.mode.startswith("I;16"):
        return np.asarray(image) >> 8 > 127
    return np.asarray(image.convert("L")) > 127
