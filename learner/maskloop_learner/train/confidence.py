"""How good a model is on its validation images, and between which bounds that is: for learning curves."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from maskloop_learner.train.answers import Answer, by_label
from maskloop_learner.train.bootstrap import interval

LEVEL = 0.95
"""Two-sided confidence of the intervals."""


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """A mean Dice over images, 0..1, with its interval; without one where the images are of a single group."""

    mean: float
    low: float | None
    high: float | None
    images: int


def measure_confidence(answers: Sequence[Answer], groups: Sequence[str], *, seed: int) -> dict[str, Any]:
    """{"overall": figures, "labels": {label: figures}} as plain JSON types, see `Confidence`; {} without answers.

    groups: the group of each example. Overall is the mean over images of the mean over each image's labels, as the
    gate counts. The interval is a bootstrap over groups, see `bootstrap`.
    """
    if not answers:
        return {}
    labels = {label: _confide(mine, groups, seed=seed) for label, mine in by_label(answers).items()}
    return {
        "overall": asdict(_confide(answers, groups, seed=seed)),
        "labels": {label: asdict(each) for label, each in labels.items()},
    }


def _confide(answers: Sequence[Answer], groups: Sequence[str], *, seed: int) -> Confidence:
    dice: dict[int, list[float]] = {}
    for each in answers:
        dice.setdefault(each.example, []).append(each.dice)
    means = [fmean(values) for values in dice.values()]
    bounds = interval(means, [groups[example] for example in dice], level=LEVEL, seed=seed)
    # Expanded for few groups, an interval may reach beyond what Dice can be.
    low, high = (None, None) if bounds is None else (round(max(0.0, bounds[0]), 5), round(min(1.0, bounds[1]), 5))
    return Confidence(mean=round(fmean(means), 5), low=low, high=high, images=len(means))
