"""Rank statistics: closed forms, brute force over pairs and over orders of ties, and what has no value."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from maskloop_learner.predict.ranks import error_auroc, excess_aurc, risk_coverage, spearman

LEVELS = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9])
"""Few, so that there are ties."""


def test_spearman_has_its_closed_forms() -> None:
    assert spearman([1, 2, 3], [10, 20, 21]) == 1
    assert spearman([1, 2, 3], [3, 2, 1]) == -1
    assert spearman([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert spearman([1, 1, 2], [1, 2, 2]) == pytest.approx(0.5)


@given(st.lists(st.tuples(LEVELS, st.floats(-5, 5)), min_size=3, max_size=30))
def test_spearman_is_the_reference_and_symmetric(pairs: list[tuple[float, float]]) -> None:
    a, b = zip(*pairs, strict=True)
    got = spearman(a, b)
    if got is None:
        assert len(set(a)) == 1 or len(set(b)) == 1
        return
    assert got == pytest.approx(spearmanr(a, b).statistic)
    assert got == spearman(b, a)
    assert -1 <= got <= 1
    assert spearman(a, a) == 1
    assert spearman([-x for x in a], b) == pytest.approx(-got)


def test_spearman_of_nothing_to_order_has_no_value() -> None:
    assert spearman([], []) is None
    assert spearman([1, 2], [1, 2]) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert spearman([1, 2, 3], [4, 4, 4]) is None


@pytest.mark.parametrize(
    ("a", "b", "named"),
    [
        ([1.0, 2.0, math.nan], [1.0, 2.0, 3.0], "first list must be finite, got nan"),
        ([1.0, 2.0, 3.0], [1.0, math.inf, 3.0], "second list must be finite, got inf"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], "of 3 numbers"),
    ],
)
def test_spearman_refuses_what_is_no_pair_of_lists(a: list[float], b: list[float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        spearman(a, b)


def test_auroc_has_its_closed_forms() -> None:
    error = np.array([False, False, True, True])
    assert error_auroc([0.1, 0.2, 0.3, 0.4], error) == 1
    assert error_auroc([0.4, 0.3, 0.2, 0.1], error) == 0
    assert error_auroc([0.3, 0.3, 0.3, 0.3], error) == 0.5
    assert error_auroc([0.1, 0.3, 0.2, 0.4], error) == 0.75


@given(st.lists(st.tuples(LEVELS, st.booleans()), min_size=1, max_size=30))
def test_auroc_is_the_share_of_pairs_in_order(items: list[tuple[float, bool]]) -> None:
    wrong = [u for u, error in items if error]
    right = [u for u, error in items if not error]
    got = error_auroc([u for u, _ in items], np.array([error for _, error in items]))
    if not wrong or not right:
        assert got is None
        return
    pairs = [(a > b) + (a == b) / 2 for a in wrong for b in right]
    assert got == pytest.approx(sum(pairs) / len(pairs))


def test_auroc_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(ValueError, match="error must be bool"):
        error_auroc([0.1, 0.2], np.array([0, 1]))
    with pytest.raises(ValueError, match="error must be bool"):
        error_auroc([0.1, 0.2], np.array([True]))
    with pytest.raises(ValueError, match="uncertainty must be finite"):
        error_auroc([0.1, math.nan], np.array([True, False]))
    with pytest.raises(ValueError, match="flat list"):
        error_auroc(np.zeros((2, 2)), np.zeros((2, 2), dtype=bool))


def test_area_under_the_risk_coverage_curve_has_its_closed_forms() -> None:
    """Risks 0, 1 in order: mean of 0 and 1/2; the other way round: mean of 1 and 1/2."""
    assert risk_coverage([0.1, 0.2], [0, 1]) == 0.25
    assert risk_coverage([0.2, 0.1], [0, 1]) == 0.75
    assert excess_aurc([0.2, 0.1], [0, 1]) == 0.5
    assert risk_coverage([0.5, 0.5], [0, 1]) == 0.5
    assert risk_coverage([0.7], [0.3]) == pytest.approx(0.3)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3]), st.floats(0, 1)), min_size=1, max_size=6))
def test_tied_images_count_as_the_mean_of_all_their_orders(items: list[tuple[float, float]]) -> None:
    u, risk = (list(x) for x in zip(*items, strict=True))
    areas = []
    for order in itertools.permutations(range(len(items))):
        if [u[k] for k in order] == sorted(u):
            sums = np.cumsum([risk[k] for k in order])
            areas.append(float((sums / np.arange(1, len(items) + 1)).mean()))
    assert risk_coverage(u, risk) == pytest.approx(sum(areas) / len(areas))


@given(st.lists(st.tuples(LEVELS, st.floats(0, 1)), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_no_order_beats_that_of_the_risk(items: list[tuple[float, float]], random: object) -> None:
    u, risk = (list(x) for x in zip(*items, strict=True))
    assert excess_aurc(u, risk) >= 0
    assert excess_aurc(risk, risk) == 0
    assert risk_coverage(risk, risk) - 1e-12 <= risk_coverage(u, risk) <= max(risk) + 1e-12
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    u2, risk2 = (list(x) for x in zip(*shuffled, strict=True))
    assert risk_coverage(u2, risk2) == pytest.approx(risk_coverage(u, risk))


def test_a_curve_needs_an_image() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        risk_coverage([], [])
    with pytest.raises(ValueError, match="risk must be a flat list of 2"):
        risk_coverage([0.1, 0.2], [0.1])
