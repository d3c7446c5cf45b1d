"""The strategies by name, and what each needs to know of the images."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from maskloop_learner.select.candidates import Candidates
from maskloop_learner.select.chance import propose_foreground, propose_random
from maskloop_learner.select.claspe import propose_claspe
from maskloop_learner.select.diverse import propose_diverse
from maskloop_learner.select.options import DEFAULT_SCORE, ChoosingError, check_score
from maskloop_learner.select.power import propose_power
from maskloop_learner.select.proposals import Propose
from maskloop_learner.select.typiclust import propose_typical
from maskloop_learner.select.uncertainty import propose_uncertain

Need = Literal["scores", "shares", "embeddings"]
DEFAULT = "uncertainty"
FIXES: dict[Need, str] = {
    "scores": "no image is scored; train a model and let it predict, or take the strategy 'typiclust' or 'random'",
    "shares": "no image has a predicted mask; train a model and let it predict, or take the strategy 'random'",
    "embeddings": "no image is embedded; let a GPU worker run, or take the strategy 'uncertainty' or 'random'",
}


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A way to choose."""

    name: str
    help: str
    """What it prefers, in one line."""
    propose: Propose
    needs: tuple[Need, ...] = ()
    """What must be known of some image at least."""
    score: str = DEFAULT_SCORE
    """The stored score that it is meant to rank by, measure/aggregation."""
    ranks: bool = True
    """Whether it heeds the score at all."""

    def check(self, candidates: Candidates) -> None:
        """Raise ChoosingError when what it needs is known of no image."""
        for need in self.needs:
            if len(candidates) and np.isnan(getattr(candidates, need)).all():
                raise ChoosingError(f"the strategy {self.name!r} needs {need}, and {FIXES[need]}")


_ALL = (
    Strategy(
        name="uncertainty",
        help="the highest score first, by default the mean predictive entropy",
        propose=propose_uncertain,
        needs=("scores",),
    ),
    Strategy(
        name="mutual_information",
        help="what the model's samples disagree on, rather than what all find unclear",
        propose=propose_uncertain,
        needs=("scores",),
        score="mutual_information/mean",
    ),
    Strategy(
        name="power",
        help="uncertain images by a weighted lot, less of one kind; early rounds draw more, later ones rank",
        propose=propose_power,
        needs=("scores",),
    ),
    Strategy(
        name="diverse",
        help="of the most uncertain images those that are unlike each other and unlike the labelled ones",
        propose=propose_diverse,
        needs=("embeddings",),
    ),
    Strategy(
        name="claspe",
        help="as power, with two thirds dealt out over the predicted labels, so that rare ones get their part",
        propose=propose_claspe,
        needs=("scores", "shares"),
    ),
    Strategy(
        name="typiclust",
        help="one typical image of every kind; for the start, when there is no model yet",
        propose=propose_typical,
        needs=("embeddings",),
        ranks=False,
    ),
    Strategy(name="random", help="by lot, every image as likely as any other", propose=propose_random, ranks=False),
    Strategy(
        name="foreground_random",
        help="by lot among the images with a predicted mask",
        propose=propose_foreground,
        needs=("shares",),
        ranks=False,
    ),
)
STRATEGIES: dict[str, Strategy] = {strategy.name: strategy for strategy in _ALL}


def find_strategy(name: str) -> Strategy:
    """The strategy of this name. Raises ChoosingError, with the names there are, for any other."""
    if name not in STRATEGIES:
        raise ChoosingError(f"there is no strategy {name!r}; choose one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def read_strategy(text: str) -> Strategy:
    """`name`, or `name:measure/aggregation` for one that is to rank by another score than it is meant for.

    Raises ChoosingError for a strategy or a score that there is not, and for a strategy that does not rank.
    """
    name, colon, score = text.partition(":")
    strategy = find_strategy(name)
    if not colon:
        return strategy
    check_score(score)
    if not strategy.ranks:
        raise ChoosingError(f"the strategy {name!r} does not rank by a score; take {name!r} alone, got {text!r}")
    return replace(strategy, score=score)
