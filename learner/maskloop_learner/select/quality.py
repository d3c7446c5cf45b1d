"""Whether uncertainty tells where a model is wrong.

It is judged on the test images. What is left of the pool would not do: each strategy has taken other images out of it,
and uncertain ones first.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.predict.ranks import error_auroc, excess_aurc, risk_coverage, spearman

SIDE = 128
"""Longer side of the grid of pixels that are judged in each image."""
IMAGES = 200
"""At most, for pixels: more say nothing new and take long to sort."""


@dataclass(frozen=True)
class Sight:
    """One image as a model sees it."""

    dice: float
    uncertainty: float
    """Of the image, 0..1."""
    entropy: NDArray[np.float32]
    """[P] of single pixels, 0..1."""
    wrong: NDArray[np.bool_]
    """[P] whether the mask is wrong there."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """See docs/simulate.md; None where there is nothing to rank."""

    images: int
    spearman: float | None
    """Of image uncertainty and 1 - Dice, -1..1: 1 is a perfect order, 0 none."""
    auroc: float | None
    """Chance that a wrong pixel is more uncertain than a right one, over all images' pixels; 0.5 is no use."""
    aurc: float | None
    """Mean 1 - Dice over the k least uncertain images, mean over k: lower is better."""
    e_aurc: float | None
    """That less the best order's, 0 or more."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def judge(sights: Sequence[Sight]) -> Quality:
    """The quality of a model's uncertainty over some images; of none, all is None."""
    if not sights:
        return Quality(images=0, spearman=None, auroc=None, aurc=None, e_aurc=None)
    u, risk = [sight.uncertainty for sight in sights], [1 - sight.dice for sight in sights]
    some = [sights[place * len(sights) // IMAGES] for place in range(IMAGES)] if len(sights) > IMAGES else sights
    return Quality(
        images=len(sights),
        spearman=spearman(u, risk),
        auroc=error_auroc(
            np.concatenate([sight.entropy for sight in some]), np.concatenate([sight.wrong for sight in some])
        ),
        aurc=risk_coverage(u, risk),
        e_aurc=excess_aurc(u, risk),
    )


def grid(shape: tuple[int, ...]) -> tuple[NDArray[np.intp], ...]:
    """An index that takes single pixels at even steps out of [H, W], at most SIDE along the longer side."""
    longest = max(shape)
    kept = [side if longest <= SIDE else max(1, round(side * SIDE / longest)) for side in shape]
    return np.ix_(*(np.arange(count) * side // count for count, side in zip(kept, shape, strict=True)))
