"""TIFF: every page becomes a picture; 8 bits as they are, deeper values by one range for the whole file."""

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from maskloop_learner.convert.intensity import (
    SAMPLE,
    Range,
    Shown,
    Values,
    Window,
    describe,
    draw_sample,
    find_range,
    spread,
    to_bytes,
)
from maskloop_learner.convert.options import ConvertError, ConvertOptions
from maskloop_learner.convert.pictures import Picture, draw_picture, frame_name
from maskloop_learner.convert.source import Source, check_size, damage_named

Tiff = TiffImagePlugin.TiffImageFile
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_FILE_TYPE, _BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 254, 258, 262, 0
_NO_PICTURE = 1 | 4
"""Bits of NewSubfileType: a smaller copy of another page, a transparency mask."""


def convert_tiff(source: Source, options: ConvertOptions) -> Iterator[Picture]:
    """The chosen pages in order. Smaller copies and transparency masks among the pages are left out.

    Raises ConvertError when the file is damaged, too large, or stored in a way that Pillow does not read.
    """
    data = source.read()
    with _reading(source):
        image = Tiff(io.BytesIO(data))
        pages = _find_pages(image)
    if not pages:
        raise ConvertError(f"{source.name}: none of its pages is a picture; export it again")
    chosen, count = options.chosen(len(pages), name=source.name), len(pages)
    shown: Shown | None = None if options.window is None else Window(centre=options.window[0], width=options.window[1])
    for number in chosen:
        _open_page(image, pages[number], source, options)
        if image.mode in _DEEP and shown is None:
            shown = _find_range(
                image, sorted({pages[number], *(pages[page] for page in spread(chosen))}), source, options
            )
            _open_page(image, pages[number], source, options)
        deep = image.mode in _DEEP
        origin = source.origin("TIFF", number + 1 if count > 1 else None, count) | {"bits": _bits(image)}
        origin |= describe(shown if deep else None) | {"not_finite": 0}
        with _reading(source):
            if deep and shown is not None:
                values = _read_values(image)
                origin["not_finite"] = int((~np.isfinite(values)).sum())
                pixels = to_bytes(_from_black(shown.apply(values), image))
            else:
                pixels = _read_colours(image)
        yield draw_picture(frame_name(source.stem, number + 1, count), pixels, origin)


def _reading(source: Source) -> AbstractContextManager[None]:
    return damage_named(source.name, "TIFF file", others=(Image.DecompressionBombError,))


def _find_pages(image: Tiff) -> list[int]:
    """Numbers of the pages that are pictures of their own."""
    pages = []
    for number in range(image.n_frames):
        image.seek(number)
        kind = image.tag_v2.get(_FILE_TYPE, 0)
        if not (isinstance(kind, int) and kind & _NO_PICTURE):
            pages.append(number)
    return pages


def _open_page(image: Tiff, page: int, source: Source, options: ConvertOptions) -> None:
    """Go to a page and check its size; its pixels are not read yet."""
    with _reading(source):
        image.seek(page)
    check_size(image.width, image.height, name=source.name, options=options)


def _find_range(image: Tiff, pages: list[int], source: Source, options: ConvertOptions) -> Range:
    """One range for the whole file, so that its pages can be compared."""
    drawn: list[Values] = []
    for page in pages:
        _open_page(image, page, source, options)
        with _reading(source):
            if image.mode in _DEEP:
                drawn.append(draw_sample(_read_values(image), SAMPLE // len(pages)))
    return find_range(np.concatenate(drawn), options.percentiles)


def _read_values(image: Tiff) -> Values:
    return np.asarray(image).astype(np.float64)


def _from_black(shares: Values, image: Tiff) -> Values:
    """Shares of white. Pillow turns 8-bit pages that count from white the right way round, deeper ones not."""
    return 1 - shares if image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else shares


def _read_colours(image: Tiff) -> NDArray[np.uint8]:
    """Grey [H, W] or RGB [H, W, 3]; transparent pixels lie on white."""
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return np.array(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"))
    return np.array(image.convert("RGB"))


def _bits(image: Tiff) -> int | None:
    """Bits per sample, of the first; None where the file says nothing usable."""
    bits = image.tag_v2.get(_BITS, (1,))
    first = bits[0] if isinstance(bits, tuple) and bits else bits
    return first if isinstance(first, int) else None
