"""The first images to label, before there is a model: one typical image of every kind."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.select.candidates import Candidates
from maskloop_learner.select.clusters import find_clusters
from maskloop_learner.select.proposals import Proposal, Proposals, Rows, Wish, propose_all

MOST_CLUSTERS = 500
SMALLEST = 5
"""Images of a cluster; smaller ones are outliers, and come last in every turn."""
NEIGHBOURS = 20
MOST_COMPARED = 500
"""Images of a cluster whose typicality is worked out, those nearest to its centre: no other is typical."""


def propose_typical(candidates: Candidates, wish: Wish) -> Proposals:
    """From the largest of the clusters with the fewest labelled images the most typical one, and so on round.

    TypiClust (Hacohen et al. 2022, arXiv 2202.02794): as many clusters of labelled and unlabelled images as there are
    labelled and wanted ones, at most 500; typical is what has the smallest mean distance to its 20 nearest neighbours
    in the cluster. Needs no label, no model and no score. Images that are not embedded come last, by lot.
    """
    rows = np.flatnonzero(candidates.embedded)
    known = len(candidates.labelled)
    vectors = np.concatenate([candidates.labelled, candidates.embeddings[rows]])
    owners, centres = find_clusters(vectors, min(known + wish.size, MOST_CLUSTERS), wish.rng)
    covered = np.bincount(owners[:known], minlength=len(centres))
    if wish.taken:
        among = np.isin(rows, np.array(wish.taken, np.int64))
        covered += np.bincount(owners[known:][among], minlength=len(centres))
    sizes = np.bincount(owners, minlength=len(centres))
    inside = [np.flatnonzero(owners[known:] == number) for number in range(len(centres))]
    turns = {
        int(number): _by_typicality(vectors[known:], inside[number], centres[number])
        for number in np.lexsort((-sizes, covered, sizes < SMALLEST))
    }
    while turns:
        for number in list(turns):
            taken = False
            while not taken:
                at = next(turns[number], None)
                if at is None:
                    del turns[number]
                    break
                kind = "with a label already" if covered[number] else "without a label"
                words = f"the most typical left of {sizes[number]:,} alike images {kind}"
                taken = yield Proposal(row=int(rows[at]), slot="typical", words=words)
    lost = np.setdiff1d(np.arange(len(candidates)), rows)
    yield from propose_all(wish.rng.permutation(lost), "random", words="drawn by lot; not embedded yet")


def _by_typicality(vectors: NDArray[np.float32], inside: Rows, centre: NDArray[np.float64]) -> Iterator[int]:
    """The numbers `inside` of a cluster, the most typical first; worked out when the first is asked for."""
    if not len(inside):
        return
    far = np.square(vectors[inside] - centre).sum(1)
    order = inside[np.argsort(np.round(far, 9), kind="stable")]
    some, rest = np.sort(order[:MOST_COMPARED]), order[MOST_COMPARED:]
    yield from some[np.argsort(mean_distances(vectors[some]), kind="stable")].tolist()
    yield from rest.tolist()


def mean_distances(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """[n] mean Euclidean distance of each of vectors [n, D], of length 1, to its 20 nearest others: the inverse of
    its typicality; 0 of a single one."""
    if len(vectors) == 1:
        return np.zeros(1)
    exact = vectors.astype(np.float64)
    apart = np.sqrt(np.maximum(2 - 2 * (exact @ exact.T), 0))
    np.fill_diagonal(apart, np.inf)
    count = min(NEIGHBOURS, len(vectors) - 1)
    nearest = np.sort(np.partition(apart, count - 1, axis=1)[:, :count], axis=1)
    return np.asarray(np.round(nearest.mean(1), 9), np.float64)
