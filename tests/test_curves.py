"""Areas under learning curves, labels to a target, bands and paired leads: closed forms and invariants."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from maskloop_learner.select.curves import area_under, band, interval, labels_to, lead

dices = st.lists(st.floats(0, 1), min_size=2, max_size=8)


def test_a_flat_curve_has_its_height_as_area() -> None:
    """Whatever its budgets, even or not."""
    assert area_under([8, 16, 40], [0.6, 0.6, 0.6]) == pytest.approx(0.6)


def test_a_straight_line_has_the_mean_of_its_ends_as_area() -> None:
    """Points on the line change nothing."""
    assert area_under([0, 10], [0.2, 0.8]) == pytest.approx(0.5)
    assert area_under([0, 1, 10], [0.2, 0.26, 0.8]) == pytest.approx(0.5)


def test_trapezoids_weigh_uneven_budgets() -> None:
    """(0.2 + 0.6) / 2 over 10 labels and (0.6 + 0.8) / 2 over 30, of 40."""
    assert area_under([10, 20, 50], [0.2, 0.6, 0.8]) == pytest.approx((0.4 * 10 + 0.7 * 30) / 40)


def test_the_area_under_one_point_is_its_height() -> None:
    """There is no width to divide by."""
    assert area_under([8], [0.42]) == 0.42


@given(dices, st.floats(0.5, 20), st.floats(0, 50))
def test_an_area_is_between_the_extremes_and_knows_no_unit_of_budget(
    dice: list[float], scale: float, shift: float
) -> None:
    """Stretched or shifted budgets give the same area."""
    labels = np.arange(len(dice), dtype=float)
    area = area_under(labels, dice)
    assert min(dice) - 1e-12 <= area <= max(dice) + 1e-12
    assert area_under(labels * scale + shift, dice) == pytest.approx(area, abs=1e-9)


@pytest.mark.parametrize(
    ("labels", "dice", "said"),
    [
        ([8, 8], [0.1, 0.2], "budgets must rise"),
        ([8, 16], [0.1], "one Dice for each budget"),
        ([], [], "one Dice for each budget"),
        ([8, 16], [0.1, math.nan], "finite"),
    ],
)
def test_what_is_no_curve_is_refused(labels: list[float], dice: list[float], said: str) -> None:
    """By name, not by a wrong figure."""
    with pytest.raises(ValueError, match=said):
        area_under(labels, dice)
    with pytest.raises(ValueError, match=said):
        labels_to(0.5, labels, dice)


def test_labels_to_a_target_lie_on_the_line_between_two_budgets() -> None:
    """0.5 is half way from 0.4 to 0.6; 0.6 is a budget itself."""
    assert labels_to(0.5, [10, 20, 30], [0.4, 0.6, 0.7]) == pytest.approx(15)
    assert labels_to(0.6, [10, 20, 30], [0.4, 0.6, 0.7]) == pytest.approx(20)


def test_a_curve_that_begins_at_the_target_needs_its_first_budget() -> None:
    """There is nothing before it to reckon from."""
    assert labels_to(0.3, [8, 16], [0.4, 0.2]) == 8


def test_a_target_that_is_never_reached_is_none() -> None:
    """Not the last budget, nor an extrapolation."""
    assert labels_to(0.9, [8, 16, 24], [0.4, 0.7, 0.89]) is None


def test_a_curve_that_falls_again_reached_its_target_the_first_time() -> None:
    """The first crossing counts."""
    assert labels_to(0.5, [0, 10, 20, 30], [0.0, 1.0, 0.0, 1.0]) == pytest.approx(5)


@given(dices, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_target_never_costs_fewer_labels(dice: list[float], one: float, other: float) -> None:
    """Not reached counts as infinitely many."""
    labels = range(len(dice))
    low, high = (
        math.inf if (found := labels_to(target, list(labels), dice)) is None else found
        for target in sorted((one, other))
    )
    assert low <= high


def test_an_interval_is_students() -> None:
    """As scipy has it."""
    values = [0.51, 0.55, 0.49, 0.6]
    found = interval(values, level=0.9)
    low, high = stats.t.interval(0.9, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high))


def test_one_seed_has_no_interval() -> None:
    """A band of no width would say that chance plays no part."""
    found = interval([0.5])
    assert (found.mean, found.low, found.high) == (0.5, None, None)
    told = lead([0.5], [0.4])
    assert told.p is None
    assert told.difference.low is None


def test_a_band_has_an_interval_at_each_budget() -> None:
    """Seeds are rows, budgets are columns."""
    found = band([[0.2, 0.5], [0.4, 0.5], [0.3, 0.5]])
    assert [each.mean for each in found] == pytest.approx([0.3, 0.5])
    assert found[0].low is not None
    assert found[0].low < 0.2
    assert (found[1].low, found[1].high) == pytest.approx((0.5, 0.5))
    with pytest.raises(ValueError, match="one length"):
        band([[0.1], [0.1, 0.2]])


def test_a_lead_is_the_paired_t_test() -> None:
    """As scipy has it; seeds that differ a lot do not hide a small lead in each."""
    mine, theirs = [0.31, 0.52, 0.74], [0.30, 0.50, 0.73]
    told = lead(mine, theirs)
    assert told.p == pytest.approx(stats.ttest_rel(mine, theirs).pvalue)
    assert told.difference.mean == pytest.approx(0.04 / 3)
    assert (told.seeds, told.ahead) == (3, 3)
    assert stats.ttest_ind(mine, theirs).pvalue > 0.9


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=6))
def test_a_lead_turned_round_changes_its_sign_alone(pairs: list[tuple[float, float]]) -> None:
    """p stays; the interval is mirrored."""
    mine, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    told, turned = lead(mine, theirs), lead(theirs, mine)
    assert told.p == pytest.approx(turned.p, abs=1e-12)
    assert told.difference.mean == pytest.approx(-turned.difference.mean)
    assert told.difference.low is not None
    assert turned.difference.high is not None
    assert told.difference.low == pytest.approx(-turned.difference.high)


def test_equal_curves_have_no_lead() -> None:
    """p is 1, not an error, where all differences are 0; and 0 where they are one amount."""
    assert lead([0.5, 0.6], [0.5, 0.6]).p == 1
    assert lead([0.75, 0.5], [0.5, 0.25]).p == 0


def test_leads_over_other_seeds_are_refused() -> None:
    """Pairs are needed."""
    with pytest.raises(ValueError, match="same seeds"):
        lead([0.5, 0.6], [0.5])
