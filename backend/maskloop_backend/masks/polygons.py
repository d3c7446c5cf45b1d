"""Masks as Label Studio's polygons: points in percent of the image, one ring to a region."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from maskloop_backend.masks.filling import FillError, fill_polygon
from maskloop_backend.masks.keyholes import cut_keyholes
from maskloop_backend.masks.outlines import find_outlines
from maskloop_learner.pool.masks import Mask

TOLERANCE = 0.75
"""How far a simplified outline may be from the traced one, in pixels."""
LARGEST_CHANGE = 0.01
"""How many of a part's pixels simplification may change, as a share; small and thin parts get a finer tolerance."""
FINEST = 0.05
"""A tolerance below this many pixels saves no points worth having; the outline is then kept as traced."""
DECIMALS = 4
"""Of a percentage: a hundredth of a pixel in an image of 10,000."""
MOST_OUTLINES = 1000
"""Of one mask, holes among them. More are noise, which would hold up everybody else for minutes."""
MOST_POINTS = 100_000
"""Of all traced outlines together; more are smoothed."""
SMOOTHINGS = 12
"""How often at most."""
OUTSIDE = 50.0
"""How far a point may lie outside the image, in percent; one further off was written in another unit."""


class PolygonError(ValueError):
    """A polygon that marks no pixels of an image; the message says what is wrong."""


def encode_polygons(mask: Mask, *, tolerance: float = TOLERANCE) -> list[list[list[float]]]:
    """The parts of a mask, each as one ring of points [x, y] in percent of the image, 0..100.

    Holes are tied to their outer ring by a cut of no width, since Label Studio's polygons have no holes. Each part
    is simplified after Douglas and Peucker without losing a hole or crossing itself, by at most `tolerance` pixels;
    it is read back, and simplified less where more than LARGEST_CHANGE of its pixels changed. 0 keeps every point
    and gives the mask back to the pixel.

    Only noise is changed more: where is_noise, each pixel first becomes what most of its neighbours are, until
    outlines have at most MOST_POINTS, and those with the largest areas are drawn, at most MOST_OUTLINES.
    """
    size = np.array([mask.shape[1], mask.shape[0]])
    outlines = find_outlines(mask)
    for number in range(SMOOTHINGS):
        if outlines is None or len(outlines.points) <= MOST_POINTS:
            break
        mask = _smooth(mask)
        if number % 3 == 2:  # to trace takes longer than to smooth
            outlines = find_outlines(mask)
    parts = [] if outlines is None else outlines.polygons(rings=MOST_OUTLINES, points=MOST_POINTS)
    return [_encode_part(part, size, tolerance) for part in parts]


def is_noise(mask: Mask) -> bool:
    """Whether a mask, bool H x W, has too many outlines, or too long ones, to be drawn as polygons as it is."""
    outlines = find_outlines(mask)
    return outlines is not None and (outlines.number > MOST_OUTLINES or len(outlines.points) > MOST_POINTS)


def decode_polygon(points: Any, *, width: int, height: int) -> Mask:
    """The pixels inside a polygon of an image of width x height pixels, as Label Studio's page fills it.

    points: a list of [x, y] in percent of the image. Raises PolygonError for anything else.
    """
    if not isinstance(points, list) or len(points) < 3:
        what = f"{len(points)} points" if isinstance(points, list) else type(points).__name__
        raise PolygonError(f"a polygon has a list of three or more points, got {what}")
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not all(map(_is_percentage, point)):
            raise PolygonError(f"a point is [x, y] in percent of the image, got {str(point)[:80]} (pixels, perhaps)")
    mask: Mask = np.zeros((height, width), dtype=np.bool_)
    try:
        fill_polygon(mask, np.array(points, dtype=np.float64) * np.array([width, height]) / 100)
    except FillError as error:
        raise PolygonError(str(error)) from error
    return mask


def _encode_part(part: shapely.Polygon, size: NDArray[np.int64], tolerance: float) -> list[list[float]]:
    left, top, right, bottom = part.bounds
    corner = np.floor([left, top])
    shape = (int(np.ceil(bottom - corner[1])), int(np.ceil(right - corner[0])))

    def fill(percent: NDArray[np.float64]) -> Mask:
        mask: Mask = np.zeros(shape, dtype=np.bool_)
        fill_polygon(mask, percent * size / 100 - corner)
        return mask

    traced = _to_percent(part, size)
    if len(traced) <= 4:
        return _as_lists(traced)
    wanted = fill(traced)
    for finer in _tolerances(tolerance):
        simple = _to_percent(part.simplify(finer, preserve_topology=True), size)
        if np.count_nonzero(fill(simple) != wanted) <= LARGEST_CHANGE * np.count_nonzero(wanted):
            return _as_lists(simple)
    return _as_lists(traced)


def _smooth(mask: Mask) -> Mask:
    """Each pixel as most of the nine around it; outside of the image is as its border."""
    padded = np.pad(mask, 1, mode="edge").astype(np.uint8)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return np.asarray(rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] > 4)


def _tolerances(largest: float) -> Iterator[float]:
    while largest >= FINEST:
        yield largest
        largest /= 1.5


def _to_percent(part: shapely.Polygon, size: NDArray[np.int64]) -> NDArray[np.float64]:
    percent: NDArray[np.float64] = cut_keyholes(part) * 100 / size
    return percent.clip(0, 100).round(DECIMALS)


def _as_lists(points: NDArray[np.float64]) -> list[list[float]]:
    return [[float(x), float(y)] for x, y in points.tolist()]


def _is_percentage(value: object) -> bool:
    # a comparison with nan is False, and a bool is no number here
    return isinstance(value, int | float) and not isinstance(value, bool) and -OUTSIDE <= value <= 100 + OUTSIDE
