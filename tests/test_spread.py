"""Medians, quartiles, their interval, and distributions."""

import math

import numpy as np
import pytest

from maskloop_learner.evaluate.spread import shares, spread


def test_median_and_quartiles_of_known_values() -> None:
    found = spread([5.0, 1.0, 2.0, 3.0, 4.0])
    assert found is not None
    assert (found.count, found.low, found.median, found.high, found.sure) == (5, 2.0, 3.0, 4.0, None)
    assert spread([]) is None


def test_the_interval_is_that_of_the_tables() -> None:
    """Places from the ends for 95 %, from the binomial distribution: 6 -> 1st, 10 -> 2nd, 20 -> 6th, 100 -> 40th."""
    for count, place in ((6, 1), (10, 2), (20, 6), (100, 40)):
        found = spread([float(n) for n in range(1, count + 1)])
        assert found is not None
        assert found.sure == (place, count + 1 - place)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    """Skewed values, like seconds; never less often than 95 %."""
    dice, held, times = np.random.default_rng(1), 0, 2000
    for _ in range(times):
        found = spread(dice.lognormal(3, 1, 15))
        assert found is not None
        assert found.sure is not None
        held += found.sure[0] <= math.exp(3) <= found.sure[1]
    assert held / times >= 0.95 - 2 * math.sqrt(0.05 * 0.95 / times)


def test_values_that_are_not_finite_are_refused_by_value() -> None:
    with pytest.raises(ValueError, match="nan"):
        spread([1.0, math.nan])


def test_shares_add_up_and_one_is_in_the_last_step() -> None:
    assert shares([0.0, 0.05, 0.5, 1.0], bins=10) == [0.5, 0, 0, 0, 0, 0.25, 0, 0, 0, 0.25]
    assert shares([]) == [0.0] * 10
    with pytest.raises(ValueError, match=r"1\.5"):
        shares([0.1, 1.5])
