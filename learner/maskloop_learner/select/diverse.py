"""Uncertain images that are unlike each other and unlike what is labelled."""

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.select.candidates import Candidates
from maskloop_learner.select.proposals import Proposal, Proposals, Wish, most_first, propose_all

Vectors = NDArray[np.float32]
ROWS_AT_ONCE = 2048
DIGITS = 5
"""To which distances are compared: equal vectors stay equal however their products are rounded."""


def propose_diverse(candidates: Candidates, wish: Wish) -> Proposals:
    """Of the `prefilter` times as many most uncertain images always the one farthest from all that is labelled or
    chosen.

    Greedy k-center (Sener and Savarese 2018, arXiv 1708.00489, algorithm 1), which is at most twice as far from
    covering them as the best choice; the filter keeps it from outliers that teach nothing. Ties fall to the more
    uncertain. The others follow by their uncertainty. Where nothing is scored, all images are spread over.
    """
    order = most_first(candidates.scores, candidates.tie_break)
    order = order[~np.isin(order, np.array(wish.taken, np.int64))]
    embedded = candidates.embedded
    near, kind = order[embedded[order]], "images"
    if not np.isnan(candidates.scores).all():
        near, kind = near[: wish.options.prefilter * wish.size], "most uncertain"
    vectors = candidates.embeddings[near]
    taken = [row for row in wish.taken if embedded[row]]
    nearest = nearest_distance(vectors, np.concatenate([candidates.labelled, candidates.embeddings[taken]]))
    left = np.ones(len(near), bool)
    while left.any():
        at = int(np.argmax(np.where(left, nearest, -1)))
        left[at] = False
        row, score = int(near[at]), float(candidates.scores[near[at]])
        words = f"the least like the others of the {len(near):,} {kind}"
        taken_now = yield Proposal(row=row, slot="diverse", score=None if np.isnan(score) else score, words=words)
        if taken_now:
            nearest = np.minimum(nearest, distances(vectors, vectors[at]))
    yield from propose_all(order[~np.isin(order, near)], "uncertain", candidates.scores)


def nearest_distance(vectors: Vectors, centres: Vectors) -> NDArray[np.float64]:
    """[N] distance of each vector to the nearest centre; infinite without any. vectors [N, D], centres [M, D]."""
    if not len(centres):
        return np.full(len(vectors), np.inf)
    alike = np.full(len(vectors), -1.0)
    for at in range(0, len(vectors), ROWS_AT_ONCE):
        some = vectors[at : at + ROWS_AT_ONCE].astype(np.float64)
        for start in range(0, len(centres), ROWS_AT_ONCE):
            products = some @ centres[start : start + ROWS_AT_ONCE].astype(np.float64).T
            alike[at : at + ROWS_AT_ONCE] = np.maximum(alike[at : at + ROWS_AT_ONCE], products.max(1))
    return _distance(alike)


def distances(vectors: Vectors, centre: Vectors) -> NDArray[np.float64]:
    """[N] Euclidean distances of vectors [N, D] of length 1 to one of them, 0..2."""
    # Not by BLAS: its sums depend on the number of threads.
    return _distance(np.einsum("nd,d->n", vectors, centre).astype(np.float64))


def _distance(alike: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.round(np.sqrt(np.maximum(2 - 2 * alike, 0)), DIGITS), np.float64)
