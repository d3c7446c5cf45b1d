"""The outlines of a mask as polygons.

Coordinates are pixels: pixel (row, column) covers column..column + 1 and row..row + 1, its centre lies at + 0.5.
An outline runs half-way between the centres inside and outside, so a polygon that is filled by centres
(filling.py) gives back its mask to the pixel.
"""

from typing import cast

import contourpy
import numpy as np
import shapely
from numpy.typing import NDArray

from maskloop_learner.pool.masks import Mask


def trace_outlines(mask: Mask) -> list[shapely.Polygon]:
    """The parts of a mask, each a polygon with its holes, in pixels. Parts that touch at a corner may be one.

    mask: bool H x W. Rings neither cross nor touch.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return []
    top, left = int(rows[0]), int(columns[0])
    inside = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    generator = contourpy.contour_generator(
        z=np.pad(inside, 1).astype(np.float64), name="serial", fill_type=contourpy.FillType.OuterOffset
    )
    points, offsets = cast(tuple[list[NDArray[np.float64]], list[NDArray[np.uint32]]], generator.filled(0.5, 2.0))
    # sample n of the padded grid is the centre of pixel n - 1
    shift = np.array([left - 0.5, top - 0.5])
    parts = []
    for part, ends in zip(points, offsets, strict=True):
        rings = np.split(part + shift, ends[1:-1].astype(np.int64))
        parts.append(shapely.Polygon(rings[0], rings[1:]))
    return parts
