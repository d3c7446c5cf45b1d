"""Whether one strategy beats another: over seeds, over test images, and among several comparisons."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from maskloop_learner.select.verdicts import compare

IMAGES = [f"image {number}" for number in range(30)]


def areas(seeds: list[float], images: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """[S, I] of a lead that differs by seed and by image."""
    return 0.5 + np.array(seeds)[:, None] + images[None]


def test_a_lead_over_seeds_and_images_is_better() -> None:
    """As the paired t-test has it; turned round, it is worse."""
    mine, theirs = areas([0.03, 0.02, 0.04], np.linspace(-0.01, 0.01, 30)), areas([0, 0, 0], np.zeros(30))
    told = compare(mine, theirs, IMAGES, count=1)
    assert told.word == "better"
    assert told.lead.p == pytest.approx(stats.ttest_rel(mine.mean(1), theirs.mean(1)).pvalue)
    assert told.over_both[0] == pytest.approx(
        0.03 - np.hypot(0.03 - (told.lead.difference.low or 0), 0.03 - (told.low or 0))
    )
    turned = compare(theirs, mine, IMAGES, count=1)
    assert turned.word == "worse"
    assert turned.over_both[1] == pytest.approx(-(told.over_both[0] or 0))


def test_a_lead_that_a_few_images_make_is_not_called_one() -> None:
    """All seeds agree, because all are tested on the same images; others might say otherwise."""
    images = np.zeros(30)
    images[0] = 0.9
    told = compare(areas([0.001, 0.0, -0.001], images), areas([0, 0, 0], np.zeros(30)), IMAGES, count=1)
    assert told.lead.difference.low is not None
    assert told.lead.difference.low > 0
    assert told.word == "unclear"
    low, high = told.over_both
    assert told.low is not None
    assert low is not None
    assert low < told.low
    text = told.say("power", "random")
    assert text.startswith("power does not surely beat random: AUBC +0.0300 (")
    assert f"but on these test images, and others may give {low:+.4f} to {high:+.4f}" in text


def test_images_of_one_patient_do_not_count_as_many() -> None:
    """Two groups of test images, one of which makes the lead."""
    images = np.where(np.arange(30) < 15, 0.05, -0.01)
    mine, theirs = areas([0.001, 0.0, -0.001], images), areas([0, 0, 0], np.zeros(30))
    assert compare(mine, theirs, IMAGES, count=1).word == "better"
    two = [f"group {number // 15}" for number in range(30)]
    assert compare(mine, theirs, two, count=1).word == "unclear"
    one = compare(mine, theirs, ["group 0"] * 30, count=1)
    assert (one.low, one.high, one.word) == (None, None, "unclear")
    assert one.say("power", "random").endswith("but on these test images, and all are of one group")


def test_every_comparison_makes_intervals_wider_and_p_larger() -> None:
    """Bonferroni: the verdict over seeds and the corrected p agree."""
    mine, theirs = areas([0.05, 0.03, 0.04], np.zeros(30)), areas([0, 0, 0], np.zeros(30))
    alone, among = (compare(mine, theirs, IMAGES, count=count) for count in (1, 4))
    assert (alone.word, among.word) == ("better", "unclear")
    assert among.p_adjusted == pytest.approx(4 * (alone.p_adjusted or 0))
    assert "corrected" not in alone.say("power", "random")
    assert "corrected for 4 comparisons" in among.say("power", "random")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=6).filter(lambda leads: np.ptp(leads) > 1e-6),
    st.integers(1, 8),
)
def test_the_corrected_p_is_below_5_percent_where_the_interval_leaves_0(leads: list[float], count: int) -> None:
    """One cannot say otherwise than the other."""
    told = compare(areas(leads, np.zeros(30)), areas([0.0] * len(leads), np.zeros(30)), IMAGES, count=count)
    d = told.lead.difference
    assert told.p_adjusted is not None
    assert d.low is not None
    assert d.high is not None
    if abs(told.p_adjusted - 0.05) > 1e-6:
        assert (told.p_adjusted < 0.05) == (d.low > 0 or d.high < 0)


def test_chance_alone_is_hardly_ever_called_a_lead() -> None:
    """Of two ways that are one, on 5 seeds and 30 images, about 5 %; by seeds alone many times as often."""
    rng = np.random.default_rng(0)
    called = seeds_alone = 0
    for _ in range(150):
        images, seeds = rng.normal(0, 0.06, (2, 30)), rng.normal(0, 0.01, (2, 5))
        mine, theirs = (areas(seeds[k].tolist(), images[k]) + rng.normal(0, 0.02, (5, 30)) for k in (0, 1))
        told = compare(mine, theirs, IMAGES, count=1)
        called += told.word in ("better", "worse")
        seeds_alone += (told.lead.p or 1) < 0.05
    assert called <= 12
    assert seeds_alone > 3 * called


def test_other_seeds_or_images_are_refused() -> None:
    """Pairs are needed."""
    with pytest.raises(ValueError, match="the same seeds and images"):
        compare(np.zeros((3, 4)), np.zeros((3, 5)), ["a"] * 4, count=1)
    with pytest.raises(ValueError, match="the same seeds and images"):
        compare(np.zeros((3, 4)), np.zeros((3, 4)), ["a"] * 5, count=1)
