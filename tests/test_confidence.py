"""Intervals of mean Dice, and the bins of a reliability diagram."""

import numpy as np
import pytest

from maskloop_learner.train.answers import Answer, reliability_bins
from maskloop_learner.train.bootstrap import interval, lower_bound
from maskloop_learner.train.calibration import Band, expected_calibration_error, reliability
from maskloop_learner.train.confidence import measure_confidence


def answer(example: int, label: str, dice: float) -> Answer:
    """On one image, with two pixels."""
    band = Band(np.array([0.2, 0.9]), np.array([0.5, 0.1]), np.array([False, True]))
    return Answer(example=example, label=label, area=0.1, dice=dice, uncertainty=0.2, band=band)


def test_an_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    """Of 200 samples of twelve groups of three alike images, about 95 %."""
    rng, held = np.random.default_rng(0), 0
    for seed in range(200):
        values = np.repeat(rng.normal(0.6, 0.1, 12), 3) + rng.normal(0, 0.02, 36)
        bounds = interval(values, [str(k // 3) for k in range(36)], level=0.95, seed=seed, resamples=500)
        assert bounds is not None
        held += bounds[0] <= 0.6 <= bounds[1]
    assert 180 <= held <= 198


def test_an_intervals_lower_end_is_the_one_sided_bound_of_half_the_doubt() -> None:
    values, groups = np.linspace(0.2, 0.9, 30), [str(k) for k in range(30)]
    bounds = interval(values, groups, level=0.9, seed=3)
    assert bounds is not None
    assert bounds[0] == pytest.approx(lower_bound(values, groups, level=0.95, seed=3))
    assert bounds[0] < values.mean() < bounds[1]
    assert interval([0.1, 0.2], ["a", "a"], level=0.9, seed=0) is None
    with pytest.raises(ValueError, match="level must be above 0 and below 1, got 1"):
        interval([0.1], ["a"], level=1, seed=0)
    with pytest.raises(ValueError, match="one group for each image"):
        interval([], [], level=0.9, seed=0)


def test_means_are_those_of_the_gate() -> None:
    """Over images of means over each image's labels: the second image knows one label alone."""
    answers = [answer(0, "A", 0.2), answer(0, "B", 0.4), answer(1, "A", 0.9)]
    found = measure_confidence(answers, ["p", "q"], seed=0)
    assert found["overall"]["mean"] == pytest.approx(0.6)
    assert (found["labels"]["A"]["mean"], found["labels"]["A"]["images"]) == (pytest.approx(0.55), 2)
    assert 0 <= found["overall"]["low"] < 0.6 < found["overall"]["high"] <= 1
    assert (found["labels"]["B"]["low"], found["labels"]["B"]["high"]) == (None, None), "one image shows nothing"
    assert measure_confidence([], [], seed=0) == {}


def test_bins_add_up_to_the_calibration_error() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(5000).round(2)
    truth = rng.random(5000) < p**2
    bins = reliability(p, truth)
    assert [round(pixels) for _, _, pixels in bins] == [334] * 5 + [333] * 10
    assert [mean for mean, _, _ in bins] == sorted(mean for mean, _, _ in bins)
    error = sum(abs(mean - share) * pixels for mean, share, pixels in bins) / 5000
    assert error == pytest.approx(expected_calibration_error(p, truth))
    few = reliability(np.array([0.1, 0.8]), np.array([False, True]))
    assert few == [(0.1, 0.0, 1), (0.8, 1.0, 1)]
    with pytest.raises(ValueError, match="not empty"):
        reliability(np.array([]), np.array([], dtype=bool))


def test_bins_of_answers_are_by_label() -> None:
    found = reliability_bins([answer(0, "A", 0.5), answer(1, "A", 0.5), answer(1, "B", 0.5)])
    assert found == {"A": [[0.2, 0.0, 1]] * 2 + [[0.9, 1.0, 1]] * 2, "B": [[0.2, 0.0, 1], [0.9, 1.0, 1]]}
