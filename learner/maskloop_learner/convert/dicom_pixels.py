"""The stored values of a DICOM frame, decoded, as numbers or as RGB."""

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.convert.dicom_file import DicomImage, reading
from maskloop_learner.convert.dicom_values import whole
from maskloop_learner.convert.options import ConvertError
from maskloop_learner.convert.source import Source

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_GDCM, _OPENJPEG = "python-gdcm", "pylibjpeg pylibjpeg-openjpeg"
_PACKAGES = {
    # of 12 bits; the only decoder is under the GPL, so that each decides for themselves
    "1.2.840.10008.1.2.4.51": "pylibjpeg pylibjpeg-libjpeg, under the GPL",
    "1.2.840.10008.1.2.4.57": _GDCM,
    "1.2.840.10008.1.2.4.70": _GDCM,
    "1.2.840.10008.1.2.4.80": _GDCM,
    "1.2.840.10008.1.2.4.81": _GDCM,
    "1.2.840.10008.1.2.4.90": _GDCM,
    "1.2.840.10008.1.2.4.91": _GDCM,
    "1.2.840.10008.1.2.4.201": _OPENJPEG,
    "1.2.840.10008.1.2.4.202": _OPENJPEG,
    "1.2.840.10008.1.2.4.203": _OPENJPEG,
}
"""Transfer syntax -> what decodes what Pillow does not."""
_FRAME_MARKERS = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7)
SEGMENTED = 65536
"""Entries that a palette may have."""


def decode_frame(image: DicomImage, frame: int, source: Source) -> NDArray[Any]:
    """The values of one frame, counted from 0: [H, W] as stored, or uint8/16 [H, W, 3] RGB.

    Raises ConvertError when it is damaged, or names what to install when no decoder for it is there.
    """
    from pydicom.pixels.decoders.base import get_decoder

    uid = image.syntax
    try:
        decoder = get_decoder(uid)
    except NotImplementedError as error:
        raise ConvertError(f"{source.name}: its pixels are {uid.name}, which is not read; export images") from error
    if not decoder.is_available:
        raise ConvertError(_lacking(image, source))
    with reading(source.name, "DICOM image"):
        if uid.is_compressed:
            _check_frame(image, frame, source)
        try:
            pixels, found = decoder.as_array(image.tags, index=frame)
        except RuntimeError as error:
            # pydicom raises it when every decoder gave up: 12-bit JPEG is one that Pillow says it can.
            if "does not support" in str(error) or "cannot decode" in str(error):
                raise ConvertError(_lacking(image, source)) from error
            raise
        if pixels.ndim == 3 and found["photometric_interpretation"] != "RGB":
            raise ConvertError(f"{source.name}: its colours do not come out as RGB; export it as RGB")
        return np.asarray(pixels)


def read_colours(image: DicomImage, frame: int, source: Source) -> NDArray[np.uint8]:
    """A colour frame as RGB, uint8 [H, W, 3]; of deeper samples the eight highest bits that are in use."""
    pixels = decode_frame(image, frame, source)
    bits = whole(image.tags, "BitsStored")
    if image.photometric == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        with reading(source.name, "DICOM palette"):
            _check_palette(image.tags)
            pixels = apply_color_lut(pixels, image.tags)[..., :3]
        bits = 16 if pixels.dtype == np.uint16 and pixels.max(initial=0) > 255 else 8
    if pixels.dtype.kind != "u":
        raise ConvertError(f"{source.name}: its colours may be negative, which is not read; export it as RGB")
    return (pixels >> max(0, bits - 8)).astype(np.uint8)


def _lacking(image: DicomImage, source: Source) -> str:
    package = _PACKAGES.get(str(image.syntax))
    advice = (
        f"install a decoder (pip install {package}) or export it uncompressed" if package else "export it as images"
    )
    return (
        f"{source.name}: its pixels are compressed as {image.syntax.name} ({image.syntax}), which needs more; {advice}"
    )


def _check_frame(image: DicomImage, frame: int, source: Source) -> None:
    """Compare a compressed frame's own size with the header's, since decoders allocate what the frame says."""
    from pydicom.encaps import get_frame

    offsets = None
    if "ExtendedOffsetTable" in image.tags and "ExtendedOffsetTableLengths" in image.tags:
        offsets = (image.tags.ExtendedOffsetTable, image.tags.ExtendedOffsetTableLengths)
    data = get_frame(image.tags.PixelData, frame, number_of_frames=image.frames, extended_offsets=offsets)
    found = coded_size(data)
    told = whole(image.tags, "Columns"), whole(image.tags, "Rows")
    if found is not None and found != told:
        raise ConvertError(
            f"{source.name}: a frame is {found[0]} x {found[1]} pixels, the header says {told[0]} x {told[1]}; "
            "export it again"
        )


def coded_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG, JPEG-LS or JPEG 2000 stream says it has; None when it says nothing."""
    if data.startswith(b"\xff\xd8"):
        place = 2
        while place + 9 <= len(data) and data[place] == 0xFF:
            if data[place + 1] == 0xFF:  # a filler before a marker
                place += 1
                continue
            if data[place + 1] in _FRAME_MARKERS:
                height, width = struct.unpack(">HH", data[place + 5 : place + 9])
                return width, height
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        return None
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(data) < start + 24:
        return None
    right, bottom, left, top = struct.unpack(">IIII", data[start + 8 : start + 24])
    return right - left, bottom - top


def _check_palette(tags: "Dataset") -> None:
    """Raise ValueError for segments that unfold to more than a palette's entries."""
    for colour in ("Red", "Green", "Blue"):
        data = tags.get(f"Segmented{colour}PaletteColorLookupTableData")
        if data is None:
            continue
        deep = int(tags[f"{colour}PaletteColorLookupTableDescriptor"].value[2]) == 16
        words, place, total = np.frombuffer(data, "<u2" if deep else "u1"), 0, 0
        while place + 1 < len(words):
            kind, length = int(words[place]), int(words[place + 1])
            total += length
            place += 2 + (length if kind == 0 else 1)
            if kind > 1 or total > SEGMENTED:
                raise ValueError("the segments of its palette are not read")
