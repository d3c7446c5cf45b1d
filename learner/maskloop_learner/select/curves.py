"""What a learning curve is worth: area under it, labels that a target costs, its band, and its lead over another's.

A curve is a list of budgets (labels learnt from, rising) and the Dice that each bought. Everything here is plain maths
on such lists. Seeds are paired: a seed's first labels and its trainings' chance are the same for all strategies.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Numbers = Sequence[float] | NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over seeds with its two-sided confidence interval; both bounds None for a single seed."""

    mean: float
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, float | None]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Lead:
    """By how much one curve's area is above another's, over the seeds that both have."""

    difference: Interval
    p: float | None
    """Two-sided, of the paired t-test; None for a single seed."""
    seeds: int
    ahead: int
    """Seeds in which it was above."""


def area_under(labels: Numbers, dice: Numbers) -> float:
    """AUBC: mean height of the curve between its first and its last budget, by trapezoids; in the unit of `dice`.

    labels [R], rising; dice [R]; both finite, R >= 1. The area under one point is its height. Budgets are normalised
    to 0..1, so curves over other numbers of labels can be compared. Raises ValueError for anything else.
    """
    x, y = check_curve(labels, dice)
    if x.size == 1:
        return float(y[0])
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / (x[-1] - x[0]))


def labels_to(target: float, labels: Numbers, dice: Numbers) -> float | None:
    """Labels after which the curve first reaches `target`, between two budgets by a straight line; None: never.

    A curve that begins at the target or above it has reached it with its first budget. Raises ValueError as
    `area_under`, and for a target that is not finite.
    """
    x, y = check_curve(labels, dice)
    if not math.isfinite(target):
        raise ValueError(f"target must be finite, got {target!r}")
    reached = np.flatnonzero(y >= target)
    if not reached.size:
        return None
    at = int(reached[0])
    if at == 0:
        return float(x[0])
    share = (target - y[at - 1]) / (y[at] - y[at - 1])
    return float(x[at - 1] + share * (x[at] - x[at - 1]))


def interval(values: Numbers, *, level: float = 0.95) -> Interval:
    """Mean of one value a seed, with Student's two-sided interval. Raises ValueError for none, NaN or a bad level."""
    v = np.asarray(values, dtype=np.float64)
    if v.ndim != 1 or not v.size or not np.isfinite(v).all():
        raise ValueError(f"values must be finite numbers, at least one, got {values!r}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    mean = float(v.mean())
    if v.size < 2:
        return Interval(mean=mean, low=None, high=None)
    half = float(stdtrit(v.size - 1, (1 + level) / 2) * v.std(ddof=1) / math.sqrt(v.size))
    return Interval(mean=mean, low=mean - half, high=mean + half)


def band(curves: Sequence[Numbers], *, level: float = 0.95) -> list[Interval]:
    """The mean curve with its interval at each budget: of S curves over the same R budgets, [R].

    Pointwise: each interval holds for its own budget. Raises ValueError for curves of several lengths, and for none.
    """
    if not curves or len({len(curve) for curve in curves}) > 1:
        raise ValueError(f"curves must have one length, got {[len(curve) for curve in curves]!r}")
    return [interval(column, level=level) for column in np.asarray(curves, dtype=np.float64).T]


def lead(mine: Numbers, theirs: Numbers, *, level: float = 0.95) -> Lead:
    """Mean paired difference of two lists of areas, one a seed and in the same order, and whether it may be chance.

    Where all seeds differ by the same amount, p is 0, or 1 if that amount is 0. Raises ValueError as `interval`, and
    for lists of two lengths.
    """
    a, b = np.asarray(mine, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"the same seeds are needed on both sides, got {a.shape!r} and {b.shape!r}")
    d = a - b
    found = interval(d, level=level)
    return Lead(difference=found, p=paired_p(d), seeds=int(d.size), ahead=int((d > 0).sum()))


def paired_p(differences: NDArray[np.float64]) -> float | None:
    """Chance of a mean as far from 0 as that of these differences, were they centred on 0; None for a single one."""
    if differences.size < 2:
        return None
    mean, error = float(differences.mean()), float(differences.std(ddof=1) / math.sqrt(differences.size))
    if error == 0:
        return float(mean == 0)
    return float(2 * stdtr(differences.size - 1, -abs(mean) / error))


def check_curve(labels: Numbers, dice: Numbers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both lists as arrays. Raises ValueError unless they are of one length, finite, and budgets rise."""
    x, y = np.asarray(labels, dtype=np.float64), np.asarray(dice, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise ValueError(f"a curve needs one Dice for each budget, got {x.shape!r} and {y.shape!r}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a curve must be finite, got NaN or infinity")
    if (np.diff(x) <= 0).any():
        raise ValueError(f"budgets must rise, got {x.tolist()!r}")
    return x, y
