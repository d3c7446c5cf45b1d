"""A polygon with holes as one ring, for a program that knows rings only.

Every hole is tied to the ring on its left by a cut of no width, there and back (a keyhole). Both ways of filling,
by parity and by winding, leave the holes open, since holes run against their outer ring.
"""

import numpy as np
import shapely
from numpy.typing import NDArray

Ring = NDArray[np.float64]
"""n x 2: x, y. The last point is joined to the first and is not a copy of it."""


def cut_keyholes(part: shapely.Polygon) -> Ring:
    """The outer ring of a polygon with every hole tied in; the outer ring itself when there is none.

    A cut runs from a hole's leftmost point straight to the left, to the first ring in its way, so cuts cross
    nothing, and no other cut.
    """
    part = shapely.orient_polygons(part)
    outer = np.asarray(part.exterior.coords)[:-1]
    holes = [_from_leftmost(np.asarray(hole.coords)[:-1]) for hole in part.interiors]
    holes.sort(key=lambda hole: (hole[0, 0], hole[0, 1]))
    rings = [outer, *holes]
    edges = _Edges(rings)
    tied: list[list[tuple[int, Ring]]] = [[] for _ in rings]
    # a hole is tied to a ring that begins further left, so from the right each is whole when its turn comes
    for number in range(len(rings) - 1, 0, -1):
        whole = _insert(rings[number], tied[number])
        ring, edge, x = edges.left_of(number, *map(float, rings[number][0]))
        cut = np.array([[x, rings[number][0, 1]]])
        tied[ring].append((edge, np.concatenate([cut, whole, whole[:1], cut])))
    return _insert(outer, tied[0])


def _from_leftmost(ring: Ring) -> Ring:
    return np.roll(ring, -int(np.lexsort((ring[:, 1], ring[:, 0]))[0]), axis=0)


def _insert(ring: Ring, tied: list[tuple[int, Ring]]) -> Ring:
    """The ring with each tied piece behind its edge's first point, in the order in which they lie on the edge."""
    if not tied:
        return ring
    pieces, done = [], 0
    for edge, piece in sorted(tied, key=lambda item: (item[0], abs(item[1][0, 1] - ring[item[0], 1]))):
        pieces += [ring[done : edge + 1], piece]
        done = edge + 1
    return np.concatenate([*pieces, ring[done:]])


class _Edges:
    """All edges of the rings of one polygon, to look along a row."""

    def __init__(self, rings: list[Ring]) -> None:
        self.ring = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
        self.number = np.concatenate([np.arange(len(ring)) for ring in rings])
        self.begin = np.concatenate(rings)
        self.end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])

    def left_of(self, ring: int, x: float, y: float) -> tuple[int, int, float]:
        """Ring, edge and x of the first edge to the left of (x, y), a point of `ring`, in its row."""
        low, high = np.minimum(self.begin[:, 1], self.end[:, 1]), np.maximum(self.begin[:, 1], self.end[:, 1])
        near = np.flatnonzero((low <= y) & (y < high) & (self.ring != ring))
        begin, end = self.begin[near], self.end[near]
        at = begin[:, 0] + (y - begin[:, 1]) / (end[:, 1] - begin[:, 1]) * (end[:, 0] - begin[:, 0])
        # only the outer ring may be touched: of two holes, each would then wait for the other
        left = (at < x) | ((at <= x) & (self.ring[near] == 0))
        near, at = near[left], at[left]
        best = int(np.argmax(at))
        return int(self.ring[near[best]]), int(self.number[near[best]]), float(at[best])
