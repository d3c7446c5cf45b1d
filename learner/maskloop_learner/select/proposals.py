"""How a strategy speaks: it proposes one image after the other, and is told of each whether it was taken."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.select.candidates import Candidates, Slot
from maskloop_learner.select.options import Options

Rows = NDArray[np.int64]
Figures = dict[str, float | int | str | list[int]]


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A row of the candidates that a strategy would have next."""

    row: int
    slot: Slot
    score: float | None = None
    """What it was ranked by; None for a lot."""
    words: str = ""
    """Why, beside its place in the ranking; "" where that says all."""
    figures: Figures = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a strategy is asked for."""

    size: int
    """How many images it is to find; it goes on proposing for as long as it is asked."""
    taken: Sequence[int]
    """Rows that are in the batch already; it need not propose them."""
    rng: np.random.Generator
    options: Options


Proposals = Generator[Proposal, bool, None]
"""Every row at most once, and in the end all of them."""
Propose = Callable[[Candidates, Wish], Proposals]


def most_first(scores: NDArray[np.float64], ties: NDArray[np.int64], *finer: NDArray[np.float64]) -> Rows:
    """[N] rows, the largest score first, equal ones by `finer` (the largest first), then by `ties`; NaN last."""
    keys = [ties, *(np.where(np.isnan(each), np.inf, -each) for each in (*finer[::-1], scores))]
    # NaN after all that is known, -inf too.
    keys.append(np.isnan(scores))
    order: Rows = np.lexsort(keys)
    return order


def propose_all(rows: Rows, slot: Slot, scores: NDArray[np.float64] | None = None, words: str = "") -> Proposals:
    """These rows in this order, with their scores where there are some."""
    for row in rows.tolist():
        known = None if scores is None or np.isnan(scores[row]) else float(scores[row])
        yield Proposal(row=row, slot=slot, score=known, words=words)
