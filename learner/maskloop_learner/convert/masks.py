"""NIfTI label volumes beside image volumes: a mask per value, slice by slice as the image is cut."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.convert.intensity import Values
from maskloop_learner.convert.kinds import sniff_kind
from maskloop_learner.convert.nifti import Volume, nifti_suffix, read_volume
from maskloop_learner.convert.nifti_pictures import draw_slices
from maskloop_learner.convert.options import DEFAULTS, ConvertError, ConvertOptions
from maskloop_learner.convert.pictures import Picture
from maskloop_learner.convert.slices import Slice, slices_of
from maskloop_learner.convert.source import damage_named, open_source

Mask = NDArray[np.bool_]
MOST_VALUES = 1000
"""A volume with more different values is no label volume."""
_NEAR = 1e-3
"""How far a label may be from a whole number, and two affines from each other (beside a share of 0.0001)."""


def label_values(path: Path, *, options: ConvertOptions = DEFAULTS) -> list[int]:
    """The values of a label volume but 0, rising. Raises ConvertError when it is none."""
    return _values_of(_read(path, options), path)


def convert_mask(
    path: Path, *, image: Path | None = None, value: int | None = None, options: ConvertOptions = DEFAULTS
) -> Iterator[tuple[str, Mask]]:
    """Name and mask [H, W] of every chosen slice, in convert_file's order, axis and turn.

    image: the volume that the labels belong to; it gives the names and is compared; None: the labels' own names.
    value: the label; None: every value but 0 together. One volume of labels serves all volumes of a 4-D image.
    Raises ConvertError when it is no label volume, or differs from the image in shape or place.
    """
    labels = _read(path, options)
    _values_of(labels, path)
    cut = labels
    if image is not None:
        cut = _read(image, options)
        check_pair(cut, labels, image, path)
    named = image or path
    source = open_source(named, suffix=nifti_suffix(named), digest=False, options=options)
    for place in slices_of(cut, options, name=path.name):
        plane = _cut_labels(labels, place, path)
        yield place.name(source.stem), plane != 0 if value is None else plane == value


def convert_pairs(
    image: Path, mask: Path, *, options: ConvertOptions = DEFAULTS
) -> Iterator[tuple[Picture, dict[int, Mask]]]:
    """Every chosen slice of an image volume and its masks [H, W] by label value, empty ones too.

    Raises ConvertError like convert_file and convert_mask.
    """
    volume, labels = _read(image, options), _read(mask, options)
    check_pair(volume, labels, image, mask)
    values = _values_of(labels, mask)
    source = open_source(image, suffix=nifti_suffix(image), digest=False, options=options)
    places = slices_of(volume, options, name=image.name)
    for place, picture in zip(places, draw_slices(volume, source, options), strict=True):
        plane = _cut_labels(labels, place, mask)
        yield picture, {value: plane == value for value in values}


def check_pair(volume: Volume, labels: Volume, image: Path, mask: Path) -> None:
    """Raise ConvertError when a label volume does not lie exactly on its image, both turned alike."""
    shape, other = volume.voxels.shape, labels.voxels.shape
    if shape[:3] != other[:3] or other[3] not in (1, shape[3]):
        raise ConvertError(
            f"{mask.name}: its shape {other!r} is not that of {image.name}, {shape!r}; resample the labels to the image"
        )
    if not np.allclose(volume.affine, labels.affine, rtol=1e-4, atol=_NEAR):
        apart = np.abs(volume.affine - labels.affine).max()
        raise ConvertError(
            f"{mask.name}: its affine is not that of {image.name} (they differ by up to {apart:.3g} millimetres), so "
            "the labels lie elsewhere; resample the labels to the image"
        )


def _read(path: Path, options: ConvertOptions) -> Volume:
    try:
        kind = sniff_kind(path)
    except OSError as error:
        raise ConvertError(f"{path.name}: it cannot be read ({error.strerror}); check the path") from error
    if kind != "NIfTI":
        raise ConvertError(
            f"{path.name}: images and label volumes in pairs are NIfTI, this is not; give .nii or .nii.gz"
        )
    return read_volume(path, options)


def _values_of(labels: Volume, path: Path) -> list[int]:
    """All values but 0. Raises ConvertError for a volume of other numbers than labels."""
    if labels.coloured:
        raise ConvertError(f"{path.name}: it holds colours; labels are whole numbers")
    found: set[int] = set()
    for volume in range(labels.voxels.shape[3]):
        for number in range(labels.voxels.shape[2]):
            with damage_named(path.name, "NIfTI file"), np.errstate(all="ignore"):
                plane = np.unique(labels.values(labels.voxels[:, :, number, volume]))
            odd = plane[~(np.abs(plane - np.rint(plane)) <= _NEAR) | (np.abs(plane) > 2**31)]
            if len(odd):
                raise ConvertError(f"{path.name}: it holds {float(odd[0])!r}; labels are whole numbers, round it first")
            found |= {int(value) for value in np.rint(plane)}
            if len(found) > MOST_VALUES:
                raise ConvertError(f"{path.name}: over {MOST_VALUES} different values are no labels; is it an image?")
    return sorted(found - {0})


def _cut_labels(labels: Volume, place: Slice, path: Path) -> Values:
    """A slice's labels, whole numbers [H, W]."""
    volume = min(place.volume, labels.voxels.shape[3] - 1)
    with damage_named(path.name, "NIfTI file"):
        return np.rint(labels.values(place._replace(volume=volume).cut(labels.voxels)))
