"""Polygons filled into a mask. A pixel is inside when its centre is.

Written out because Pillow also paints the pixels that a polygon's line touches, half a pixel too much all around.
"""

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.pool.masks import Mask

_PIECE = 1 << 20
"""Crossings worked on at a time: bounds the memory."""


class FillError(ValueError):
    """A polygon that no person drew; the message says why."""


def fill_polygon(mask: Mask, points: NDArray[np.float64]) -> None:
    """Set the pixels of a polygon, as a browser's canvas fills it: where its outline winds around the centre.

    mask: bool H x W, changed in place; points: n x 2, x and y in pixels from the image's corner, finite, the last
    joined to the first; what lies outside the image is cut off. A centre on a left or upper edge is inside.
    Raises FillError when the outline crosses rows more often than the image has pixels.
    """
    height, width = mask.shape
    begin, end = points, np.roll(points, -1, axis=0)
    rows = np.clip(np.ceil(np.stack([begin[:, 1], end[:, 1]]) - 0.5), 0, height).astype(np.int64)
    first, counts = rows.min(axis=0), np.abs(rows[1] - rows[0])
    crossing = np.flatnonzero(counts)
    if not crossing.size:
        return
    if counts.sum() > 2 * mask.size + 100_000:
        raise FillError(f"its outline crosses rows {counts.sum()} times in an image of {mask.size} pixels")
    begin, end, first, counts = begin[crossing], end[crossing], first[crossing], counts[crossing]
    top, bottom = int(first.min()), int((first + counts).max())
    left = int(np.clip(np.floor(points[:, 0].min()), 0, width))
    right = int(np.clip(np.ceil(points[:, 0].max()), left, width))
    turns = np.zeros((bottom - top, right - left + 1), dtype=np.int32)
    slope = (end[:, 0] - begin[:, 0]) / (end[:, 1] - begin[:, 1])
    sign = np.where(end[:, 1] > begin[:, 1], 1, -1)
    ends = np.cumsum(counts)
    for edges in np.split(np.arange(len(counts)), np.searchsorted(ends, np.arange(_PIECE, ends[-1], _PIECE))):
        number = counts[edges]
        edge = np.repeat(edges, number)
        row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(number) - number, number)
        x = begin[edge, 0] + (row + 0.5 - begin[edge, 1]) * slope[edge]
        column = np.clip(np.ceil(x - 0.5), left, right).astype(np.int64)
        np.add.at(turns, (row - top, column - left), sign[edge])
    mask[top:bottom, left:right] |= np.cumsum(turns, axis=1)[:, :-1] != 0
