"""COCO's ways to write a mask: polygons, run lengths as numbers, and run lengths as a text.

Encoding and the filling of polygons are pycocotools', so that pixels are COCO's to the last. Decoding of run
lengths is our own: pycocotools reads past the end of ones that are too short.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from maskloop_backend.transfer import Refused
from maskloop_learner.pool.masks import Mask

LONGEST_COUNT = 6
"""Characters of one run length in the text form: 30 bits."""
FAR = 2.0
"""How many image sides a polygon may reach beyond the image; what it costs to fill grows with its edges."""


def decode_segmentation(segmentation: object, *, width: int, height: int) -> Mask:
    """The mask of one annotation, bool height x width. Parts of a polygon are united. Raises Refused."""
    if isinstance(segmentation, list):
        return _fill(segmentation, width, height)
    if not isinstance(segmentation, Mapping):
        raise Refused(f"its segmentation is {type(segmentation).__name__}, neither polygons nor run lengths")
    if segmentation.get("size") != [height, width]:
        raise Refused(
            f"its run lengths are of size {segmentation.get('size')!r} (height, width), the image has "
            f"[{height}, {width}] as it is shown"
        )
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        runs = read_counts(counts)
    elif isinstance(counts, list) and all(type(count) is int for count in counts):
        runs = _bounded(counts)
    else:
        raise Refused("its run lengths (counts) are neither a text nor a list of whole numbers")
    return _expand(runs, width, height)


def encode_segmentation(mask: Mask) -> tuple[dict[str, Any], int, list[float]]:
    """Compressed run lengths of a mask, its area in pixels and its box [x, y, width, height]."""
    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    box = [float(side) for side in coco.toBbox(encoded)]
    size = [int(side) for side in encoded["size"]]
    return {"size": size, "counts": encoded["counts"].decode("ascii")}, int(coco.area(encoded)), box


def read_counts(text: str) -> NDArray[np.int64]:
    """The run lengths in COCO's text: base 32 from `0` on, the lowest digits first, from the fourth on differences.

    Raises Refused for what is no such text.
    """
    try:
        chars = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError as error:
        raise Refused("its run lengths (counts) have characters that COCO does not use") from error
    if not chars.size:
        return np.zeros(0, dtype=np.int64)
    if chars.min() < 0 or chars.max() > 63:
        raise Refused("its run lengths (counts) have characters that COCO does not use")
    ends = np.flatnonzero(chars & 32 == 0)
    if not ends.size or ends[-1] != chars.size - 1:
        raise Refused("its run lengths (counts) are cut short")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > LONGEST_COUNT:
        raise Refused("its run lengths (counts) have a number that is too large")
    places = np.arange(chars.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((chars & 31) << (5 * places), starts)
    values[chars[ends] & 16 > 0] -= 1 << (5 * lengths[chars[ends] & 16 > 0])
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _bounded(counts: Sequence[int]) -> NDArray[np.int64]:
    if counts and not 0 <= min(counts) <= max(counts) < 1 << 31:
        raise Refused("its run lengths (counts) have a number out of range")
    return np.array(counts, dtype=np.int64)


def _expand(runs: NDArray[np.int64], width: int, height: int) -> Mask:
    if runs.size and runs.min() < 0:
        raise Refused("its run lengths (counts) have a number below 0")
    total = int(runs.sum())
    if total != width * height:
        raise Refused(f"its run lengths make {total} pixels, the image has {width * height}")
    inside = np.arange(runs.size) % 2 == 1
    return np.repeat(inside, runs).reshape((width, height)).T.copy()


def _fill(parts: list[Any], width: int, height: int) -> Mask:
    if parts and all(isinstance(value, int | float) for value in parts):
        parts = [parts]  # one part without the list around it
    rings: list[list[float]] = []
    for part in parts:
        if not isinstance(part, list) or len(part) < 6 or len(part) % 2:
            raise Refused("a part of its polygon is no list x1, y1, x2, y2, x3, y3, ...")
        try:
            points = np.array(part, dtype=np.float64).reshape(-1, 2)
        except (TypeError, ValueError, OverflowError) as error:
            raise Refused("a part of its polygon has something else than numbers") from error
        size = np.array([width, height])
        if not np.isfinite(points).all() or (points < -FAR * size).any() or (points > (1 + FAR) * size).any():
            raise Refused("a part of its polygon lies far outside the image")
        # pycocotools takes a list of four numbers for a box, so six are the least.
        rings.append(points.ravel().tolist())
    if not rings:
        raise Refused("its polygon has no part")
    merged = coco.merge(coco.frPyObjects(rings, height, width))
    return _expand(read_counts(merged["counts"].decode("ascii")), width, height)
