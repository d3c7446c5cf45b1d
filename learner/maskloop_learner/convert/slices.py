"""Slices of a NIfTI volume, upright: the one order, axis and turn for images and for masks.

Axial slices go from the feet up, coronal ones from the back to the front, sagittal ones from the patient's left to
the right. As radiologists look at them: front or head up; axial and coronal with the patient's left on the right
of the picture, sagittal with the face to the left.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.convert.nifti import Volume
from maskloop_learner.convert.options import Axis, ConvertError, ConvertOptions
from maskloop_learner.convert.pictures import frame_name

AXES: dict[Axis, int] = {"sagittal": 0, "coronal": 1, "axial": 2}


class Slice(NamedTuple):
    """Where a picture lies: slice and volume count from 0."""

    number: int
    slices: int
    volume: int
    volumes: int
    axis: Axis

    def cut(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """The slice out of [X, Y, Z, T], upright, [H, W]."""
        plane = np.moveaxis(voxels[..., self.volume], AXES[self.axis], 0)[self.number]
        return np.ascontiguousarray(plane.T[::-1, ::-1])

    def name(self, stem: str) -> str:
        """Its picture's file name."""
        volume, volumes = self.volume + 1, self.volumes
        return frame_name(stem, self.number + 1, self.slices, volume=volume, volumes=volumes)


def slices_of(volume: Volume, options: ConvertOptions, *, name: str) -> Iterator[Slice]:
    """The chosen slices, volume by volume. Raises ConvertError when there are none."""
    slices, volumes = volume.voxels.shape[AXES[options.axis]], volume.voxels.shape[3]
    numbers = options.chosen(slices, name=name)
    if options.volume is not None and options.volume > volumes:
        raise ConvertError(f"{name}: volume {options.volume} is asked for, it has {volumes}; change the volume")
    for one in range(volumes) if options.volume is None else [options.volume - 1]:
        for number in numbers:
            yield Slice(number, slices, one, volumes, options.axis)


def spacing_of(volume: Volume, axis: Axis) -> tuple[list[float], float]:
    """Millimetres between the rows and the columns of a slice, and between slices."""
    sizes = [round(float(size), 6) for size in np.linalg.norm(volume.affine[:3, :3], axis=0)]
    across = AXES[axis]
    column, row = (sizes[place] for place in range(3) if place != across)
    return [row, column], sizes[across]
