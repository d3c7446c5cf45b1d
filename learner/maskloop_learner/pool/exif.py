"""How a browser shows a picture according to its Exif block, as little of Exif as that needs.

The rules are Chromium's, found by looking: only one SHORT of 1..8 in the first directory turns the picture
(a LONG, a BYTE, two values or XMP do not), and a JPEG, not a PNG, is shown at a size of its own when
resolution and pixel dimensions agree about it.
"""

import struct
from dataclasses import dataclass

_RESOLUTION_X, _RESOLUTION_Y, _RESOLUTION_UNIT, _ORIENTATION = 0x011A, 0x011B, 0x0128, 0x0112
_EXIF_DIRECTORY, _PIXELS_X, _PIXELS_Y = 0x8769, 0xA002, 0xA003
_SHORT, _LONG, _RATIONAL = 3, 4, 5
_INCH = 2
_SCREEN_DPI = 72


@dataclass(frozen=True)
class Display:
    """orientation: 1..8; size: (width, height) in pixels at which Exif asks to show the unturned picture."""

    orientation: int = 1
    size: tuple[int, int] | None = None


def read_display(exif: bytes, *, width: int, height: int) -> Display:
    """Read an Exif block, with or without the leading Exif marker; anything unreadable counts as absent.

    width, height: pixels as stored. The returned size is None unless it differs from the stored one.
    """
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return Display()
    tags = _read_directory(block, order, struct.unpack_from(order + "I", block, 4)[0])
    tags |= _read_directory(block, order, int(tags.get(_EXIF_DIRECTORY, 0)), (_PIXELS_X, _PIXELS_Y))
    orientation = int(tags.get(_ORIENTATION, 1))
    resolution = tags.get(_RESOLUTION_X, 0), tags.get(_RESOLUTION_Y, 0)
    size = int(tags.get(_PIXELS_X, 0)), int(tags.get(_PIXELS_Y, 0))
    agreed = (
        tags.get(_RESOLUTION_UNIT) == _INCH
        and all(resolution)
        and 0 < size[0] <= width
        and 0 < size[1] <= height
        and size != (width, height)
        and abs(width * _SCREEN_DPI / resolution[0] - size[0]) <= 0.5
        and abs(height * _SCREEN_DPI / resolution[1] - size[1]) <= 0.5
    )
    return Display(orientation if 1 <= orientation <= 8 else 1, size if agreed else None)


def _read_directory(
    block: bytes,
    order: str,
    start: int,
    wanted: tuple[int, ...] = (_RESOLUTION_X, _RESOLUTION_Y, _RESOLUTION_UNIT, _ORIENTATION, _EXIF_DIRECTORY),
) -> dict[int, float]:
    """Single SHORT, LONG and RATIONAL values of the wanted tags; entries beyond the block are left out."""
    found: dict[int, float] = {}
    if not 8 <= start <= len(block) - 2:
        return found
    count = struct.unpack_from(order + "H", block, start)[0]
    for entry in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, kind, values = struct.unpack_from(order + "HHI", block, entry)
        if tag not in wanted or values != 1:
            continue
        if kind == _SHORT:
            found[tag] = struct.unpack_from(order + "H", block, entry + 8)[0]
        elif kind == _LONG and tag != _ORIENTATION:
            found[tag] = struct.unpack_from(order + "I", block, entry + 8)[0]
        elif kind == _RATIONAL:
            at = struct.unpack_from(order + "I", block, entry + 8)[0]
            if at + 8 <= len(block):
                above, below = struct.unpack_from(order + "II", block, at)
                found[tag] = above / below if below else 0
    return found
