"""The most uncertain images first: the default, and what the pool, the API and Label Studio rank by."""

from maskloop_learner.select.candidates import Candidates
from maskloop_learner.select.proposals import Proposals, Wish, most_first, propose_all


def propose_uncertain(candidates: Candidates, wish: Wish) -> Proposals:
    """By the score alone, the largest first; ties by `Candidates.tie_break`, unknown ones last.

    Uncertainty sampling (Lewis and Gale 1994, arXiv cmp-lg/9407020), with any score that the caller put in.
    """
    return propose_all(most_first(candidates.scores, candidates.tie_break), "uncertain", candidates.scores)
