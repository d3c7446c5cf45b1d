"""Serving scores: strictly in the batch's order, below all others, and the same after JSON and a database."""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskloop_learner.select.order import LEAST, MOST_MEMBERS, batch_score, plain_score

LARGE = 100_000


def test_a_batch_of_100000_is_strictly_ordered_after_json_and_a_database() -> None:
    """Every position keeps its place, to the last bit, and also with six digits or in single precision."""
    scores = [batch_score(position) for position in range(1, LARGE + 1)]
    assert json.loads(json.dumps(scores)) == scores
    assert [float(f"{score:.6g}") for score in scores] == scores
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE prediction (place INTEGER, score REAL)")
        database.executemany("INSERT INTO prediction VALUES (?, ?)", reversed(list(enumerate(scores))))
        rows = database.execute("SELECT place, score FROM prediction ORDER BY score").fetchall()
    assert rows == list(enumerate(scores))
    assert (np.diff(np.array(scores, np.float32)) > 0).all()
    assert 0 < scores[0] < scores[-1] < plain_score(1.0) == LEAST


@settings(deadline=None)
@given(st.integers(1, MOST_MEMBERS), st.integers(1, MOST_MEMBERS), st.floats(0, 1))
def test_members_come_in_order_and_before_all_others(one: int, other: int, uncertainty: float) -> None:
    """Whatever the uncertainty outside; and all scores are such that Label Studio takes them."""
    first, second = sorted((one, other))
    assert 0.0 < batch_score(first) <= batch_score(second) < plain_score(uncertainty) <= 1.0
    assert first == second or batch_score(first) < batch_score(second)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_the_more_uncertain_comes_first_outside_a_batch(one: float, other: float) -> None:
    """Equal scores only where nine decimals are equal."""
    low, high = sorted((one, other))
    assert 0.0 <= plain_score(high) <= plain_score(low) <= 1.0
    assert high - low < 2e-9 or plain_score(high) < plain_score(low)


@settings(deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_nine_decimals_are_told_apart_up_to_the_ends(one: int, other: int) -> None:
    """As the pool keeps them: exactly the same order, also next to 1."""
    low, high = sorted((one, other))
    assert (plain_score(high / 10**9) < plain_score(low / 10**9)) == (low < high)
    assert plain_score(1.0) < plain_score(0.999999999)


@pytest.mark.parametrize("position", [0, -1, MOST_MEMBERS + 1])
def test_a_position_that_no_batch_has_is_refused(position: int) -> None:
    with pytest.raises(ValueError, match=f"got {position}"):
        batch_score(position)


@pytest.mark.parametrize("uncertainty", [float("nan"), float("inf")])
def test_an_uncertainty_that_is_no_number_is_refused(uncertainty: float) -> None:
    """Label Studio would keep it as null, and serve it before all others."""
    with pytest.raises(ValueError, match=repr(uncertainty)):
        plain_score(uncertainty)
