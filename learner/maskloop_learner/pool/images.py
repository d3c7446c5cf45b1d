"""The pixels of an image exactly as a browser shows them, so that a mask drawn there fits.

The orientation rules are Chromium's, found by looking: it follows Exif in JPEG and in PNG (an eXIf chunk
before the pixels) and ignores Exif in WebP and all XMP; Pillow's exif_transpose does not make these
differences. Colour profiles are not applied.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from maskloop_learner.pool.exif import Display, read_display

Transpose = Image.Transpose

# Pillow's classes instead of Image.open: its decompression bomb limit is one global number that would refuse
# below our limit (only its WebP reader asks for it too), and a phone's multi-picture JPEG opens as what a
# browser shows, the first picture.
_READERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_OTHER_FORMATS = (
    (0, b"GIF8", "a GIF"),
    (0, b"II*\0", "a TIFF"),
    (0, b"MM\0*", "a TIFF"),
    (128, b"DICM", "a DICOM file"),
    (0, b"\x1f\x8b", "a gzip file (a NIfTI volume?)"),
    (0, b"%PDF", "a PDF"),
    (4, b"ftyp", "a HEIC, AVIF or video file"),
    (0, b"<", "a web page or SVG"),
)
_CONVERTED = {"a TIFF", "a DICOM file", "a gzip file (a NIfTI volume?)"}
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
"""What Pillow's readers were seen to raise on damaged bytes."""


class ImageError(ValueError):
    """An image that cannot be served; the message names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class ImageInfo:
    """Size in pixels as shown, after the orientation, and the format: JPEG, PNG, WEBP or BMP."""

    width: int
    height: int
    format: str


def probe_image(data: bytes, *, max_megapixels: float, name: str) -> ImageInfo:
    """Check a whole image file and tell its size as shown.

    data: the file's bytes; name: what messages call it. The size is checked before, the pixels by decoding.
    Raises ImageError when it is empty, no image, damaged, animated, too large or of a format not served.
    """
    image = decode_image(data, name=name, max_megapixels=max_megapixels)
    return ImageInfo(image.width, image.height, sniff_format(data) or "")


def open_image(data: bytes, *, name: str = "image") -> NDArray[np.uint8]:
    """The pixels as shown: uint8 H x W x 3, RGB.

    16-bit values keep their high byte, transparent pixels lie on white, CMYK is converted, as in a browser.
    Raises ImageError like probe_image, without a limit of size.
    """
    return np.array(_as_shown(decode_image(data, name=name)))


def as_grey(image: Image.Image) -> Image.Image:
    """A decoded picture in 8-bit grey, converted like `open_image`'s."""
    plain = image.mode in ("L", "RGB") and not image.has_transparency_data
    return (image if plain else _as_shown(image)).convert("L")


def _as_shown(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
    return image.convert("RGB")


def decode_image(data: bytes, *, name: str, max_megapixels: float | None = None) -> Image.Image:
    """The decoded picture, turned as shown, in the file's own Pillow mode. Raises ImageError like probe_image."""
    format_name = sniff_format(data)
    if format_name is None:
        raise ImageError(f"{name}: {_describe(data)}")
    try:
        image = _READERS[format_name](io.BytesIO(data))
        # before load(): a PNG's eXIf that follows the pixels is not known yet, and browsers ignore it too
        exif = image.info.get("exif", b"") if format_name in ("JPEG", "PNG") else b""
        display = read_display(exif, width=image.width, height=image.height)
        _refuse_unshowable(image, display, format_name, name, max_megapixels)
        image.load()
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name}: its pixels do not fit into memory; scale it down") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: too many pixels for Pillow's {format_name} reader; save it as PNG") from error
    except _BROKEN as error:
        raise ImageError(
            f"{name}: the {format_name} file is damaged or cut short ({error}); export or upload it again"
        ) from error
    turn = _TURNS.get(display.orientation)
    return image if turn is None else image.transpose(turn)


def sniff_format(data: bytes) -> str | None:
    """JPEG, PNG, WEBP or BMP by the first bytes, whatever the file is called; None for anything else."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    # a text may begin with BM as well: a real header has four zero bytes and a known size after it
    if data[:2] == b"BM" and data[6:10] == b"\0\0\0\0" and len(data) >= 26:
        return "BMP"
    return None


def _describe(data: bytes) -> str:
    """What a file is that we do not serve."""
    if not data:
        return "the file is empty; give a PNG or JPEG"
    for offset, magic, what in _OTHER_FORMATS:
        if data[offset : offset + len(magic)] == magic:
            said = f"the file is {what}, which is not served"
            if what in _CONVERTED:
                return f"{said}: browsers cannot show it; `maskloop import` makes PNGs of such files"
            return f"{said}; give a PNG or JPEG"
    return f"the file is no image (it begins with {data[:12]!r}); give a PNG or JPEG"


def _refuse_unshowable(
    image: ImageFile.ImageFile, display: Display, format_name: str, name: str, max_megapixels: float | None
) -> None:
    """Raise ImageError for what the header alone forbids: size, animation, a display size of its own."""
    width, height = image.size
    if max_megapixels is not None and width * height > max_megapixels * 1e6:
        raise ImageError(
            f"{name}: {width} x {height} pixels are {width * height / 1e6:.1f} megapixels, over the limit of "
            f"{max_megapixels:g}; scale it down or raise MASKLOOP_MAX_IMAGE_MEGAPIXELS"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(f"{name}: animated, {frames} frames; export the frames as single images")
    if format_name == "JPEG" and display.size is not None:
        raise ImageError(
            f"{name}: Exif tells browsers to show {width} x {height} pixels as {display.size[0]} x "
            f"{display.size[1]}, so masks would not fit; save it without Exif"
        )
