"""Exact tests of small counts: is one side's share larger than the other's, version by version?"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Numbers = NDArray[np.floating[Any]]
NEVER = 1e-30
"""A chance that is too small to count."""


class Stratum(NamedTuple):
    """Things that may be compared, such as masks of one prediction version, seen from two sides."""

    part: int
    whole: int
    other_part: int
    other_whole: int


def exceeds(strata: Sequence[Stratum]) -> float:
    """The chance of so many hits or more in all strata together, were both sides alike within each.

    Given how many hits each stratum has on both sides: of one stratum Fisher's exact test, one-sided; of several the
    distribution of the sum of hypergeometric numbers (Birch 1964, J. R. Stat. Soc. B 26, 313-324). Exact to 1e-20.
    """
    lowest = 0
    chances: Numbers = np.ones(1)
    for each in strata:
        low, more = _hits(each)
        lowest, chances = _trim(lowest + low, np.convolve(chances, more))
    at = sum(each.part for each in strata) - lowest
    return min(1.0, math.fsum(chances[max(at, 0) :]))


def holm(ps: Sequence[float]) -> list[float]:
    """P-values corrected for how many there are (Holm 1979, a step-down Bonferroni), in the order given."""
    order = sorted(range(len(ps)), key=lambda place: ps[place])
    found, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, ps[place] * (len(ps) - rank)))
        found[place] = largest
    return found


def check_part(name: str, hits: int, count: int) -> None:
    """Raises ValueError, naming the side, for a part that cannot be."""
    if not 0 <= hits <= count:
        raise ValueError(f"{name}: a part must be between 0 and the whole, got {hits!r} of {count!r}")


def _hits(stratum: Stratum) -> tuple[int, Numbers]:
    """The fewest hits that the first side can have, and the chance of each number from there on."""
    for name, hits, count in (("the first side", *stratum[:2]), ("the second side", *stratum[2:])):
        check_part(name, hits, count)
    total, all_hits = stratum.whole + stratum.other_whole, stratum.part + stratum.other_part
    lowest = max(0, all_hits - stratum.other_whole)
    k = np.arange(lowest, min(stratum.whole, all_hits) + 1, dtype=np.float64)
    whole = _log_choose(total, np.array(stratum.whole, np.float64))
    return _trim(lowest, np.exp(_log_choose(all_hits, k) + _log_choose(total - all_hits, stratum.whole - k) - whole))


def _trim(lowest: int, chances: Numbers) -> tuple[int, Numbers]:
    """Without the ends that hardly ever come: of many thousand masks that leaves some hundreds of numbers."""
    kept = np.flatnonzero(chances > NEVER)
    return lowest + int(kept[0]), chances[kept[0] : kept[-1] + 1]


def _log_choose(n: int, k: Numbers) -> Numbers:
    found: Numbers = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return found
