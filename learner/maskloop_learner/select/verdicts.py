"""Whether a strategy beats another, over seeds and over test images, and how to say it.

Two things are chance here: seeds (first labels, trainings) and which images test. Strategies are crossed with both, so
a lead is called one when it is more than both explain together; one over seeds alone holds for these test images and
no others.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.select.curves import Lead, lead
from maskloop_learner.train.bootstrap import lower_bound

LEVEL = 0.95
LEAST_P = 0.001
"""Smaller ones are told as that."""

Word = Literal["better", "worse", "unclear", "unknown"]
WORDS: dict[int, Word] = {1: "better", 0: "unclear", -1: "worse"}
Areas = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One strategy against another, both on the same seeds and test images."""

    lead: Lead
    """Over seeds."""
    low: float | None
    high: float | None
    """Of the same difference, mean over seeds, were the groups of test images drawn anew; None for a single group."""
    level: float
    """Of all intervals."""
    count: int
    """Comparisons that are made, this one among them."""

    @property
    def p_adjusted(self) -> float | None:
        """Two-sided, after Bonferroni's correction; below 5 % where the interval over seeds is on one side of 0."""
        return None if self.lead.p is None else min(1.0, self.lead.p * self.count)

    @property
    def over_both(self) -> tuple[float | None, float | None]:
        """Bounds of the difference with other seeds and other images; None for a single seed or group.

        The distances of both intervals' bounds from the mean, added as variances are (Zou and Donner 2008, Statistics
        in Medicine 27: 1693). What seeds and images do together is counted twice, so it is rather too wide.
        """
        d = self.lead.difference
        if d.low is None or d.high is None or self.low is None or self.high is None:
            return None, None
        return (
            d.mean - math.hypot(d.mean - d.low, d.mean - self.low),
            d.mean + math.hypot(d.high - d.mean, self.high - d.mean),
        )

    @property
    def word(self) -> Word:
        """`better` or `worse` where the interval over both is on one side of 0; `unknown` for a single seed."""
        if self.lead.difference.low is None:
            return "unknown"
        return WORDS[side(*self.over_both)]

    def say(self, strategy: str, other: str) -> str:
        """A sentence with the figures, without its full stop."""
        d, word = self.lead.difference, self.word
        if word == "unknown":
            return (
                f"{strategy}: AUBC {d.mean:+.4f} against {other} on one seed, which says nothing of chance; "
                "take more seeds"
            )
        figures = f"AUBC {d.mean:+.4f} ({d.low:+.4f} to {d.high:+.4f}, {self._say_p()}), {self._say_ahead()}"
        if word == "better":
            return f"{strategy} beats {other}: {figures}"
        if word == "worse":
            return f"{strategy} does not beat {other}, it is worse: {figures}"
        if side(d.low, d.high) <= 0:
            return f"{strategy} does not beat {other}: {figures}"
        low, high = self.over_both
        others = "all are of one group" if low is None else f"others may give {low:+.4f} to {high:+.4f}"
        return f"{strategy} does not surely beat {other}: {figures}, but on these test images, and {others}"

    def to_dict(self, strategy: str, other: str) -> dict[str, Any]:
        """As in results.json."""
        return {
            **asdict(self.lead.difference),
            "level": self.level,
            "p": self.lead.p,
            "p_adjusted": self.p_adjusted,
            "comparisons": self.count,
            "seeds": self.lead.seeds,
            "ahead": self.lead.ahead,
            "over_images": {"low": self.low, "high": self.high},
            "over_both": dict(zip(("low", "high"), self.over_both, strict=True)),
            "verdict": self.word,
            "text": self.say(strategy, other),
        }

    def _say_p(self) -> str:
        p = self.p_adjusted or 0.0
        told = f"p < {LEAST_P}" if p < LEAST_P else f"p = {p:.3f}"
        return f"paired {told}" if self.count == 1 else f"paired {told} corrected for {self.count} comparisons"

    def _say_ahead(self) -> str:
        return f"ahead in {self.lead.ahead} of {self.lead.seeds} seeds"


def compare(mine: Areas, theirs: Areas, groups: Sequence[str], *, count: int) -> Comparison:
    """Both [S, I]: the area under each test image's own curve, by seed, whose means over images are the seeds' AUBC.

    groups: [I] of the test images. count: how many comparisons are made in all; with several chances to look good,
    intervals are widened so that all hold at once with 95 % (Bonferroni). Raises ValueError for arrays of other shapes.
    """
    if mine.shape != theirs.shape or mine.ndim != 2 or mine.shape[1] != len(groups):
        raise ValueError(
            f"the same seeds and images are needed on both sides, got {mine.shape!r}, {theirs.shape!r} and "
            f"{len(groups)} groups"
        )
    level = 1 - (1 - LEVEL) / count
    each, tail = (mine - theirs).mean(axis=0), (1 + level) / 2
    low, negative = (lower_bound(values, groups, level=tail, seed=0) for values in (each, -each))
    return Comparison(
        lead=lead(mine.mean(axis=1), theirs.mean(axis=1), level=level),
        low=low,
        high=None if negative is None else -negative,
        level=level,
        count=count,
    )


def side(low: float | None, high: float | None) -> int:
    """1 for an interval above 0, -1 for one below it, 0 for one that holds it or is not known."""
    if low is None or high is None:
        return 0
    return int(low > 0) - int(high < 0)
