"""By lot: the two baselines that every other strategy must beat."""

import numpy as np

from maskloop_learner.select.candidates import Candidates
from maskloop_learner.select.proposals import Proposals, Wish, propose_all


def propose_random(candidates: Candidates, wish: Wish) -> Proposals:
    """All orders are equally likely."""
    return propose_all(wish.rng.permutation(len(candidates)).astype(np.int64), "random", words="drawn by lot")
