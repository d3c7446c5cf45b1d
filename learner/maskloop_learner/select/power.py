"""Uncertain images by a weighted lot, so that a batch is not twenty views of one difficulty."""

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.select.candidates import Candidates
from maskloop_learner.select.options import ChoosingError
from maskloop_learner.select.proposals import Proposals, Rows, Wish, most_first, propose_all


def propose_power(candidates: Candidates, wish: Wish) -> Proposals:
    """The largest log score + Gumbel noise / beta first.

    The same as drawing without replacement with probabilities in proportion to score ** beta: beta 0 draws by lot,
    infinity ranks (Kirsch et al. 2021, "Stochastic Batch Acquisition", arXiv 2106.12059, power acquisition). Images
    of score 0 come after all others, unless beta is 0; unknown ones last. Raises ChoosingError for scores below 0.
    """
    beta = wish.options.beta_now
    order = power_order(candidates.scores, candidates.tie_break, beta=beta, rng=wish.rng)
    return propose_all(order, "uncertain", candidates.scores, words=f"drawn with noise (beta {beta:.3g})")


def power_order(scores: NDArray[np.float64], ties: NDArray[np.int64], *, beta: float, rng: np.random.Generator) -> Rows:
    """[N] rows by scores with noise. scores, ties: [N]; beta: 0 or more, infinity too."""
    if (scores < 0).any():
        raise ChoosingError(
            f"noise by power needs scores of 0 or more, got {float(np.nanmin(scores))!r}; "
            "take the strategy 'uncertainty'"
        )
    if np.isinf(beta):
        return most_first(scores, ties)
    noise = rng.gumbel(size=len(scores))
    if beta == 0:
        return most_first(np.where(np.isnan(scores), np.nan, noise), ties)
    with np.errstate(divide="ignore"):
        noisy = np.log(scores) + noise / beta
    # Where the logarithm rounds two scores to one, the score itself decides.
    return most_first(noisy, ties, scores)
