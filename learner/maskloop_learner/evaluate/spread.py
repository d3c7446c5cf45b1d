"""How values spread that no bell curve fits, like seconds: median, quartiles, and how sure the median is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

Values = Sequence[float] | NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Spread:
    """Of one set of values, in their unit."""

    count: int
    low: float
    """The lower quartile: a quarter of the values is below."""
    median: float
    high: float
    """The upper quartile."""
    sure: tuple[float, float] | None
    """Where the median of all that might have been measured lies with 95 %; None where the values are too few."""


def spread(values: Values) -> Spread | None:
    """Median and quartiles, interpolated; None of nothing. Raises ValueError for a value that is not finite."""
    found = np.sort(np.asarray(values, dtype=np.float64))
    if not found.size:
        return None
    if not np.isfinite(found).all():
        raise ValueError(f"values must be finite, got {float(found[~np.isfinite(found)][0])!r}")
    low, median, high = (float(each) for each in np.percentile(found, (25, 50, 75)))
    place = _place(found.size)
    sure = (float(found[place]), float(found[found.size - 1 - place])) if place is not None else None
    return Spread(found.size, low, median, high, sure)


def shares(values: Values, *, bins: int = 10) -> list[float]:
    """Share of the values, each in 0..1, in every one of `bins` equal steps; 1 itself is in the last. Zeros of none."""
    found = np.asarray(values, dtype=np.float64)
    if not found.size:
        return [0.0] * bins
    if not ((found >= 0) & (found <= 1)).all():
        raise ValueError(f"values must be in 0..1, got {float(found.min())!r} to {float(found.max())!r}")
    counts, _ = np.histogram(found, bins=bins, range=(0, 1))
    return [float(each) for each in counts / found.size]


def _place(count: int, *, level: float = 0.95) -> int | None:
    """Index from 0 of the sorted value at which the median's interval begins, as far from the end as it ends.

    Distribution-free: how many of the values are below the median follows a binomial distribution (Conover 1999,
    Practical Nonparametric Statistics, 3.2). With five values or fewer no interval holds it with 95 %.
    """
    outside = (1 - level) / 2
    # Near below what the normal distribution says, then step by step.
    place = max(math.floor(count / 2 - math.sqrt(count)) - 2, -1)
    while bdtr(place + 1, count, 0.5) <= outside:
        place += 1
    return place if place >= 0 else None
