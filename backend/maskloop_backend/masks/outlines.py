"""The outlines of a mask as polygons.

Coordinates are pixels: pixel (row, column) covers column..column + 1 and row..row + 1, its centre lies at + 0.5.
An outline runs half-way between the centres inside and outside, so a polygon that is filled by centres
(filling.py) gives back its mask to the pixel.
"""

from typing import NamedTuple, cast

import contourpy
import numpy as np
import shapely
from numpy.typing import NDArray

from maskloop_learner.pool.masks import Mask


class Outlines(NamedTuple):
    """All rings of a mask in one array of points, each ring closed, the outer one of a part before its holes."""

    points: NDArray[np.float64]
    """n x 2, x and y in pixels."""
    rings: NDArray[np.int64]
    """Where rings begin among the points, and the end."""
    parts: NDArray[np.int64]
    """Where parts begin among the rings, and the end."""

    @property
    def number(self) -> int:
        """How many outlines there are, holes among them."""
        return len(self.rings) - 1

    def polygons(self, *, rings: int | None = None, points: int | None = None) -> list[shapely.Polygon]:
        """A polygon with its holes for each part; only the rings with the largest areas, at most so many of so many
        points together, but always one. None: no limit.
        """
        # a hole is smaller than its outline, so no hole stays without it
        order = np.argsort(-self._areas(), kind="stable")[:rings]
        if points is not None:
            sizes = np.cumsum(np.diff(self.rings)[order])
            order = order[: max(1, int(np.searchsorted(sizes, points, side="right")))]
        kept = np.zeros(self.number, dtype=np.bool_)
        kept[order] = True
        polygons = []
        for begin, end in zip(self.parts[:-1], self.parts[1:], strict=True):
            if kept[begin]:
                numbers = (begin + np.flatnonzero(kept[begin:end])).tolist()
                outer, *holes = [self.points[self.rings[number] : self.rings[number + 1]] for number in numbers]
                polygons.append(shapely.Polygon(outer, holes))
        return polygons

    def _areas(self) -> NDArray[np.float64]:
        x, y = self.points.T
        cross = np.append(x[:-1] * y[1:] - x[1:] * y[:-1], 0.0)
        # what joins one ring to the next is no edge of either
        cross[self.rings[1:] - 1] = 0.0
        areas: NDArray[np.float64] = np.abs(np.add.reduceat(cross, self.rings[:-1]))
        return areas


def find_outlines(mask: Mask) -> Outlines | None:
    """The outlines of a mask, bool H x W; None when it has no pixel. Rings neither cross nor touch.

    Parts that touch at a corner may be one.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    top, left = int(rows[0]), int(columns[0])
    inside = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    generator = contourpy.contour_generator(
        z=np.pad(inside, 1).astype(np.float64), name="serial", fill_type=contourpy.FillType.ChunkCombinedOffsetOffset
    )
    found = cast(tuple[list[NDArray[np.float64]], ...], generator.filled(0.5, 2.0))
    (points,), (rings,), (parts,) = found
    # sample n of the padded grid is the centre of pixel n - 1
    shift = np.array([left - 0.5, top - 0.5])
    return Outlines(points + shift, rings.astype(np.int64), parts.astype(np.int64))


def trace_outlines(mask: Mask) -> list[shapely.Polygon]:
    """The parts of a mask, bool H x W, each a polygon with its holes, in pixels."""
    outlines = find_outlines(mask)
    return [] if outlines is None else outlines.polygons()
