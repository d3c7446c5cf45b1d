"""Candidates made by hand or by chance, for the tests of strategies."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskloop_learner.select.candidates import Candidates


def unit(vectors: ArrayLike | list[list[float]]) -> NDArray[np.float32]:
    """Rows of length 1."""
    found = np.asarray(vectors, np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def make_candidates(
    scores: ArrayLike,
    *,
    ids: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    shares: ArrayLike | None = None,
    embeddings: NDArray[np.float32] | None = None,
    labelled: NDArray[np.float32] | None = None,
    phashes: list[str | None] | None = None,
    thumbnails: list[str | None] | None = None,
    ties: ArrayLike | None = None,
) -> Candidates:
    """Candidates of which the rest is unknown."""
    values = np.asarray(scores, np.float64)
    count = len(values)
    vectors = np.empty((count, 0), np.float32) if embeddings is None else embeddings
    return Candidates(
        ids=np.arange(10, 10 + count) if ids is None else np.asarray(ids, np.int64),
        scores=values,
        groups=np.full(count, -1) if groups is None else np.asarray(groups, np.int64),
        shares=np.empty((count, 0)) if shares is None else np.asarray(shares, np.float64),
        embeddings=vectors,
        labelled=np.empty((0, vectors.shape[1]), np.float32) if labelled is None else labelled,
        phashes=phashes or [],
        thumbnails=thumbnails or [],
        ties=np.empty(0, np.int64) if ties is None else np.asarray(ties, np.int64),
    )


def make_many(count: int, *, seed: int, width: int = 6, labelled: int = 4) -> Candidates:
    """Candidates by chance, of which all is known: scores with ties, five groups and single ones, two labels."""
    rng = np.random.default_rng(seed)
    return make_candidates(
        np.round(rng.random(count), 1),
        groups=rng.integers(-1, 5, count),
        shares=np.maximum(rng.random((count, 2)) - 0.5, 0),
        embeddings=unit(rng.normal(size=(count, width))),
        labelled=unit(rng.normal(size=(labelled, width))),
    )
