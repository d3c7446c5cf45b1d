"""NIfTI: the slices of a volume become pictures, all by one range, so that they can be compared."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from maskloop_learner.convert.intensity import Shown, Window, describe, draw_sample, find_range, to_bytes
from maskloop_learner.convert.nifti import Volume, read_volume
from maskloop_learner.convert.options import ConvertError, ConvertOptions
from maskloop_learner.convert.pictures import Picture, draw_picture
from maskloop_learner.convert.slices import AXES, Slice, slices_of, spacing_of
from maskloop_learner.convert.source import Source, check_size, damage_named


def convert_nifti(source: Source, options: ConvertOptions) -> Iterator[Picture]:
    """The chosen slices of the chosen volumes. Raises ConvertError when the file is damaged or too large."""
    volume = read_volume(source.path, options)
    yield from draw_slices(volume, source, options)


def draw_slices(volume: Volume, source: Source, options: ConvertOptions) -> Iterator[Picture]:
    """The chosen slices of a volume that is read already."""
    shown: Shown | None = None
    across = AXES[options.axis]
    width, height = (size for axis, size in enumerate(volume.voxels.shape[:3]) if axis != across)
    check_size(width, height, name=source.name, options=options)
    for place in slices_of(volume, options, name=source.name):
        with damage_named(source.name, "NIfTI file"), np.errstate(all="ignore"):
            shown = shown or _find_shown(volume, source, options)
            plane = place.cut(volume.voxels)
            origin = _origin(volume, place, source)
            if volume.coloured:
                pixels = np.stack([plane[field] for field in "RGB"], axis=-1)
                origin |= describe(None) | {"not_finite": 0}
            else:
                values = volume.values(plane)
                pixels = to_bytes(shown.apply(values))
                origin |= describe(shown) | {"not_finite": int((~np.isfinite(values)).sum())}
        yield draw_picture(place.name(source.stem), pixels, origin)


def _find_shown(volume: Volume, source: Source, options: ConvertOptions) -> Shown:
    if options.window is not None or volume.coloured:
        centre, width = options.window or (128.0, 256.0)
        return Window(centre=centre, width=width)
    values = volume.values(draw_sample(volume.voxels))
    if not np.isfinite(values).any():
        raise ConvertError(f"{source.name}: none of its voxels is a number; write it again")
    return find_range(values, options.percentiles)


def _origin(volume: Volume, place: Slice, source: Source) -> dict[str, Any]:
    """The technical facts of a slice."""
    spacing, distance = spacing_of(volume, place.axis)
    dtype: np.dtype[Any] = volume.voxels.dtype
    many = place.volumes > 1
    return source.origin("NIfTI", place.number + 1 if place.slices > 1 else None, place.slices) | {
        "axis": place.axis,
        "volume": place.volume + 1 if many else None,
        "volumes": place.volumes,
        "type": "RGB" if volume.coloured else dtype.name,
        "rescale": None if volume.coloured else {"slope": volume.slope, "intercept": volume.intercept},
        "spacing": spacing,
        "slice_distance": distance,
        "orientation": volume.stored,
        "orientation_known": volume.known,
        "oblique_degrees": volume.oblique,
    }
