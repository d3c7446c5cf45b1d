"""DICOM: every frame becomes a picture as a viewer shows it, with technical facts and without identities."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.convert.dicom_file import DicomImage, read_dicom, reading
from maskloop_learner.convert.dicom_grey import Rescale, Table, find_padding, find_rescale, find_shown
from maskloop_learner.convert.dicom_pixels import decode_frame, read_colours
from maskloop_learner.convert.dicom_values import MODALITIES, facts, fixed, group, number, term, whole
from maskloop_learner.convert.intensity import (
    SAMPLE,
    Range,
    Window,
    describe,
    draw_sample,
    find_range,
    spread,
    to_bytes,
)
from maskloop_learner.convert.options import ConvertOptions
from maskloop_learner.convert.pictures import Picture, draw_picture, frame_name
from maskloop_learner.convert.source import Source


def convert_dicom(source: Source, options: ConvertOptions) -> Iterator[Picture]:
    """The chosen frames in order. Raises ConvertError for what is damaged, no image, or not to be shown."""
    image = read_dicom(source, options)
    chosen = options.chosen(image.frames, name=source.name)
    fallback: Range | None = None
    for frame in chosen:
        origin = source.origin("DICOM", frame + 1 if image.frames > 1 else None, image.frames)
        with reading(source.name, "DICOM header"):
            origin |= _facts(image, frame)
            rescale = find_rescale(image.tags, frame)
            shown = find_shown(image.tags, frame, rescale, options, name=source.name) if image.grey else None
        by = "bits"
        if image.grey and shown is None:
            by = "percentiles"
            shown = fallback = fallback or _find_range(image, chosen, source, options)
        if shown is None:
            pixels = read_colours(image, frame, source)
            origin |= describe(None) | {"rescale": None}
        else:
            pixels = _draw(image, frame, rescale, shown, source)
            origin |= describe(None) | {"shown_by": "table"} if isinstance(shown, Table) else describe(shown, by=by)
            origin["rescale"] = rescale.as_json()
        yield draw_picture(frame_name(source.stem, frame + 1, image.frames), pixels, origin)


def _draw(
    image: DicomImage, frame: int, rescale: Rescale, shown: Window | Table | Range, source: Source
) -> NDArray[np.uint8]:
    """The grey pixels of a frame, uint8 [H, W]."""
    stored = decode_frame(image, frame, source)
    with reading(source.name, "DICOM image"):
        shares = shown.apply(rescale.apply(stored))
        if image.photometric == "MONOCHROME1":
            shares = 1 - shares
        padding = find_padding(image.tags, stored)
        return to_bytes(shares if padding is None else np.where(padding, 0.0, shares))


def _find_range(image: DicomImage, chosen: range, source: Source, options: ConvertOptions) -> Range:
    """One range for all frames, so that they can be compared; padding does not count."""
    frames, drawn = spread(chosen), []
    for frame in frames:
        stored = decode_frame(image, frame, source)
        with reading(source.name, "DICOM image"):
            padding = find_padding(image.tags, stored)
            inside = stored if padding is None else stored[~padding]
            drawn.append(find_rescale(image.tags, frame).apply(draw_sample(inside, SAMPLE // len(frames))))
    return find_range(np.concatenate(drawn), options.percentiles)


def _facts(image: DicomImage, frame: int) -> dict[str, Any]:
    """The technical facts of a frame: numbers and fixed terms."""
    tags = image.tags
    measures = group(tags, frame, "PixelMeasuresSequence")
    orientation = facts(group(tags, frame, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    spacings = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
    padding = [number(tags, "PixelPaddingValue"), number(tags, "PixelPaddingRangeLimit")]
    burned_in = term(tags, "BurnedInAnnotation")
    return {
        "modality": fixed(tags, "Modality", MODALITIES),
        "photometric": image.photometric,
        "bits": whole(tags, "BitsStored"),
        "signed": whole(tags, "PixelRepresentation", 0) == 1,
        "padding": [value for value in padding if value is not None] or None,
        "transfer_syntax": image.syntax.name,
        "lossy": {"00": False, "01": True}.get(term(tags, "LossyImageCompression")),
        "spacing": next((found for found in (facts(measures, key, 2) for key in spacings) if found), None),
        "aspect": facts(tags, "PixelAspectRatio", 2),
        "thickness": next(iter(facts(measures, "SliceThickness", 1) or []), None),
        "orientation": orientation,
        "axis": _axis(orientation),
        "burned_in_annotation": {"YES": True, "NO": False}.get(burned_in),
        "overlays_left_out": image.overlays,
    }


def _axis(orientation: list[float] | None) -> str | None:
    """The anatomical plane that a slice is nearest to."""
    if orientation is None:
        return None
    normal = np.abs(np.cross(orientation[:3], orientation[3:]))
    return ("sagittal", "coronal", "axial")[int(normal.argmax())] if normal.any() else None
