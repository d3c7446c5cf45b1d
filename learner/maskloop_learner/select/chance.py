"""By lot: the two baselines that every other strategy must beat."""

import numpy as np

from maskloop_learner.select.candidates import Candidates
from maskloop_learner.select.proposals import Proposals, Rows, Wish, propose_all


def propose_random(candidates: Candidates, wish: Wish) -> Proposals:
    """All orders are equally likely."""
    return propose_all(_shuffle(len(candidates), wish), "random", words="drawn by lot")


def propose_foreground(candidates: Candidates, wish: Wish) -> Proposals:
    """By lot among the images with a predicted mask; all others after them, by lot too.

    After foreground-aware random sampling, "Random 66 % FG" of nnActive (Lüth et al. 2025). That draws two thirds where
    the true mask is and one third anywhere; this draws all, and without labels the predicted mask must do: images
    whose finding the model does not see come last.
    """
    order = _shuffle(len(candidates), wish)
    seen = np.asarray((candidates.shares > 0).any(1), np.bool_)[order]  # NaN is not
    yield from propose_all(order[seen], "random", words="drawn by lot among images with a predicted mask")
    yield from propose_all(order[~seen], "random", words="drawn by lot; no mask is predicted")


def _shuffle(count: int, wish: Wish) -> Rows:
    return wish.rng.permutation(count).astype(np.int64)
