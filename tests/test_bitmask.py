"""Bitmasks: a PNG in a data URL, black on transparent, read with care."""

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskloop_backend.masks.bitmask import PREFIX, BitmaskError, decode_bitmask, encode_bitmask


def url(image: Image.Image | bytes, **options: Any) -> str:
    """A picture, or any bytes, as a data URL."""
    if isinstance(image, bytes):
        return PREFIX + base64.b64encode(image).decode()
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return url(buffer.getvalue())


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes) -> bytes:
    """A PNG of 8-bit grey whose pixels are what `rows` unpacks to."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


HALF = np.zeros((6, 8), dtype=np.uint8)
HALF[:, :4] = 255


def test_inside_is_black_and_opaque_and_outside_transparent() -> None:
    """A page paints all that is not transparent."""
    made = encode_bitmask(HALF > 0)
    assert made == encode_bitmask(HALF > 0)
    image = Image.open(io.BytesIO(base64.b64decode(made.removeprefix(PREFIX))))
    assert (image.format, image.mode) == ("PNG", "RGBA")
    assert np.array_equal(np.asarray(image)[..., 3], HALF)
    assert not np.asarray(image)[..., :3].any()
    assert np.array_equal(decode_bitmask(made, width=8, height=6), HALF > 0)


def test_transparency_counts_where_there_is_any_and_brightness_elsewhere() -> None:
    """Half opaque is not inside, more is; a wholly opaque black RGBA picture is all inside, as the page shows it."""
    grey = Image.fromarray(HALF)
    alpha = np.where(HALF, 127, 128).astype(np.uint8)
    soft = Image.merge("LA", (Image.new("L", (8, 6)), Image.fromarray(alpha)))
    assert np.array_equal(decode_bitmask(url(soft), width=8, height=6), HALF == 0)
    assert decode_bitmask(url(Image.new("RGBA", (8, 6), "black")), width=8, height=6).all()
    palette = grey.convert("P")
    deep = Image.fromarray(HALF.astype(np.uint16) * 257)
    for picture in (grey, grey.convert("RGB"), grey.convert("1"), palette, deep):
        assert np.array_equal(decode_bitmask(url(picture), width=8, height=6), HALF > 0), picture.mode
    assert np.array_equal(decode_bitmask(url(palette, transparency=0), width=8, height=6), HALF > 0)
    assert np.array_equal(decode_bitmask(url(grey, transparency=0), width=8, height=6), HALF > 0)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "got NoneType"),
        (b"data:image/png;base64,", "got bytes"),
        ("https://images.test/mask.png", "got 'https://images.test/mask.png'"),
        (encode_bitmask(HALF > 0).replace("png", "jpeg", 1), "a PNG in a data URL"),
        ("data:image/svg+xml;base64,PHN2Zy8+", "a PNG in a data URL"),
        (PREFIX + "not base64!", "no base64"),
        (PREFIX + "ééé", "no base64"),
        (PREFIX + "AAA", "no base64"),
        (PREFIX, "holds no PNG"),
        (url(b"GIF89a" + bytes(50)), "holds no PNG"),
        (url(b"\x89PNG\r\n\x1a\n"), "holds no PNG"),
        (encode_bitmask(np.ones((8, 6), dtype=bool)), "6 x 8 pixels, the image has 8 x 6"),
        (url(png(60_000, 60_000, zlib.compress(bytes(10_000_000)))), "60000 x 60000 pixels"),
        (url(png(8, 6, zlib.compress(bytes(20)))), "damaged or cut short"),
        (url(png(8, 6, b"no zlib")), "damaged or cut short"),
        (PREFIX + "A" * 200_000, "200022 characters, too many for 8 x 6 pixels"),
    ],
)
def test_what_is_no_bitmask_says_why(value: Any, reason: str) -> None:
    with pytest.raises(BitmaskError, match=reason):
        decode_bitmask(value, width=8, height=6)


def test_a_flood_behind_the_pixels_is_left_where_it_is() -> None:
    """Rows that would unpack to far more than the image: its own pixels come, and no more."""
    flood = url(png(8, 6, zlib.compress(bytes([0, *[255] * 8]) * 6 + bytes(60_000_000))))
    assert decode_bitmask(flood, width=8, height=6).all()
