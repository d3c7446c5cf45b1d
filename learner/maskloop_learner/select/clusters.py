"""Groups of vectors that lie together: k-means, made so that it gives the same groups in every process."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Vectors = NDArray[np.float64]
MOST_SAMPLED = 5_000
"""Vectors that the centres are found from; all are assigned."""
ITERATIONS = 10
ROWS_AT_ONCE = 10_000
ROUNDING = 1e-9


def find_clusters(
    vectors: NDArray[np.float32], count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Vectors]:
    """[N] number of each vector's cluster, 0..count - 1, and [count, D] the centres. vectors: [N, D], N >= 1.

    Lloyd's algorithm from k-means++ (Arthur and Vassilvitskii 2007), in float64. Fewer clusters come out where there
    are fewer different vectors.
    """
    sample = vectors
    if len(vectors) > MOST_SAMPLED:
        sample = vectors[np.sort(rng.choice(len(vectors), MOST_SAMPLED, replace=False))]
    points = sample.astype(np.float64)
    centres = _seed(points, min(count, len(points)), rng)
    for _ in range(ITERATIONS):
        owners = _assign(points, centres)
        sizes = np.bincount(owners, minlength=len(centres))
        one = sparse.csr_matrix((np.ones(len(points)), (owners, np.arange(len(points)))), (len(centres), len(points)))
        moved = np.where(sizes[:, None] > 0, (one @ points) / np.maximum(sizes, 1)[:, None], centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    pieces = [
        _assign(vectors[at : at + ROWS_AT_ONCE].astype(np.float64), centres)
        for at in range(0, len(vectors), ROWS_AT_ONCE)
    ]
    return np.concatenate(pieces), centres


def _seed(points: Vectors, count: int, rng: np.random.Generator) -> Vectors:
    squares = np.square(points).sum(1)
    chosen = [int(rng.integers(len(points)))]
    nearest = np.full(len(points), np.inf)
    while True:
        last = chosen[-1]
        apart = squares + squares[last] - 2 * (points @ points[last])
        # What is nearer than the rounding is the same vector, and never drawn.
        nearest = np.minimum(nearest, np.where(apart > ROUNDING, apart, 0))
        reached = np.cumsum(nearest)
        if len(chosen) == count or not reached[-1]:
            return points[chosen]
        chosen.append(int(np.searchsorted(reached, rng.random() * reached[-1], side="right")))


def _assign(points: Vectors, centres: Vectors) -> NDArray[np.int64]:
    scores = points @ centres.T - np.square(centres).sum(1) / 2
    return np.asarray(scores.argmax(1), np.int64)
