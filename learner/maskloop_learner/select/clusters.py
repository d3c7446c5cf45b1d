"""Groups of vectors that lie together: k-means, made so that it gives the same groups in every process."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Vectors = NDArray[np.float64]
MOST_SAMPLED = 10_000
"""Vectors that the centres are found from; all are assigned."""
ITERATIONS = 10
ROWS_AT_ONCE = 10_000


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
    chosen = [int(rng.integers(len(points)))]
    nearest = np.square(points - points[chosen[0]]).sum(1)
    while len(chosen) < count and nearest.max() > 1e-12:
        reached = np.cumsum(nearest)
        chosen.append(int(np.searchsorted(reached, rng.random() * reached[-1], side="right")))
        nearest = np.minimum(nearest, np.square(points - points[chosen[-1]]).sum(1))
    return points[chosen]


def _assign(points: Vectors, centres: Vectors) -> NDArray[np.int64]:
    scores = points @ centres.T - np.square(centres).sum(1) / 2
    return np.asarray(scores.argmax(1), np.int64)
