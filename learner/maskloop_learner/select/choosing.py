"""A batch out of all candidates: a strategy's images, a share by lot, and for each the reason in words and figures."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maskloop_learner.select.admission import Admission
from maskloop_learner.select.candidates import Candidates, Pick, in_order
from maskloop_learner.select.options import ChoosingError, Options
from maskloop_learner.select.proposals import Proposal, Proposals, Wish
from maskloop_learner.select.reasons import Reasons
from maskloop_learner.select.remarks import remarks, shortage
from maskloop_learner.select.strategies import find_strategy

__all__ = ["Choice", "ChoosingError", "Options", "choose", "make_choice"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The images of a batch, and what is to be said of all of them."""

    picks: list[Pick]
    shortage: str
    """Why there are fewer than were asked for; "" when there are as many."""
    note: str
    """That, where the strategy fell back, and what was passed over; "" when there is nothing to say."""


def choose(candidates: Candidates, *, strategy: str, size: int, seed: int, options: Options) -> list[Pick]:
    """At most `size` images in the order in which they should be labelled; see `make_choice`."""
    return make_choice(candidates, strategy=strategy, size=size, seed=seed, options=options).picks


def make_choice(candidates: Candidates, *, strategy: str, size: int, seed: int, options: Options) -> Choice:
    """Choose at most `size` images, each once, in the order in which they should be labelled.

    First `options.random_share` of them are drawn by lot from all candidates, so that they are a fair sample; the
    strategy finds the others; then the lots are spread evenly over the order. Without lots, caps and duplicates the
    strategy's order is kept exactly. The order of the rows does not matter. Equal arguments give equal picks.

    Raises ChoosingError for a strategy that is unknown or lacks what it needs, and for a bad size or seed;
    ValueError for candidates that do not fit together.
    """
    if size < 1:
        raise ChoosingError(f"a batch must have 1 image or more, got size {size!r}")
    if seed < 0:
        raise ChoosingError(f"the seed must be 0 or more, got {seed!r}")
    chosen, rows = find_strategy(strategy), in_order(candidates)
    chosen.check(rows)
    # Two streams: how many lots there are changes nothing in the strategy's noise.
    lots, noise = (np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(2))
    wanted = min(size, len(rows))
    admission = Admission(rows, options)
    by_lot = _collect(_draw(rows, lots), admission, int(options.random_share * wanted + 0.5))
    wish = Wish(size=wanted - len(by_lot), taken=tuple(admission.taken), rng=noise, options=options)
    found = _collect(chosen.propose(rows, wish), admission, wish.size)
    score = options.score or chosen.score
    reasons = Reasons(rows, score=score, size=wanted, twins=admission.twins)
    drawn = [reasons.explain(proposal) for proposal in by_lot]
    picks = spread([reasons.explain(proposal) for proposal in found], drawn)
    short = shortage(size, len(picks), rows, admission)
    mine = [proposal.row for proposal in found]
    asides = remarks(rows, mine, strategy=chosen, score=score, admission=admission, short=bool(short))
    note = ". ".join(sentence[:1].upper() + sentence[1:] for sentence in filter(None, (short, *asides)))
    if note:
        log.info("%s", note)
    return Choice(picks=picks, shortage=short, note=note)


def spread(ordered: Sequence[Pick], between: Sequence[Pick]) -> list[Pick]:
    """All of both, each in its order, the second ones as evenly as can be between the first."""
    total = len(ordered) + len(between)
    places = {(2 * k + 1) * total // (2 * len(between)) for k in range(len(between))}
    first, second = iter(ordered), iter(between)
    return [next(second) if place in places else next(first) for place in range(total)]


def _draw(candidates: Candidates, rng: np.random.Generator) -> Proposals:
    for row in rng.permutation(len(candidates)).tolist():
        yield Proposal(row=row, slot="random", words="drawn by lot")


def _collect(proposals: Proposals, admission: Admission, size: int) -> list[Proposal]:
    found: list[Proposal] = []
    try:
        proposal = next(proposals) if size else None
        while proposal is not None and len(found) < size:
            taken = admission.admit(proposal.row)
            if taken:
                found.append(proposal)
            proposal = proposals.send(taken) if len(found) < size else None
    except StopIteration:
        pass
    return found
