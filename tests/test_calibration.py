"""Calibration: closed forms of temperature and ECE, invariants, bands, and a report on made-up images."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit

from maskloop_learner.predict.ranks import error_auroc, excess_aurc, risk_coverage, spearman
from maskloop_learner.train.calibration import (
    CalibrationError,
    CalibrationReport,
    band_mask,
    band_pixels,
    expected_calibration_error,
    fit_temperature,
    log_mean_sigmoid,
    report_calibration,
)

Map = NDArray[np.float64]
Mask = NDArray[np.bool_]


def coin(level: float, right: int, wrong: int) -> tuple[Map, Mask]:
    """One sample: logits of +-level, of which `right` point at the truth and `wrong` do not, in both classes."""
    truth = np.array([True, False] * (right + wrong))
    sign = np.where(truth, 1, -1) * np.repeat([1, -1], [2 * right, 2 * wrong])
    return (level * sign)[None], truth


@pytest.mark.parametrize("level", [0.5, 4.0, 10.0])
@pytest.mark.parametrize("wrong", [1, 3, 9])
def test_temperature_has_its_closed_form(level: float, wrong: int) -> None:
    """sigmoid(level / T) is the share of right pixels at the optimum, so T = level / logit(share)."""
    logits, truth = coin(level, 20, wrong)
    assert fit_temperature(logits, truth) == pytest.approx(level / math.log(20 / wrong), rel=1e-4)


def draw(seed: int, temperature: float, *, samples: int = 5, pixels: int = 4000) -> tuple[Map, Mask]:
    """Samples of logits and a truth that has the frequencies of mean sigmoid(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=pixels) + rng.normal(size=(samples, pixels)) - 1
    return logits, rng.random(pixels) < expit(logits / temperature).mean(axis=0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_made_the_truth_is_found(temperature: float) -> None:
    logits, truth = draw(0, temperature, pixels=40_000)
    assert fit_temperature(logits, truth) == pytest.approx(temperature, rel=0.05)


def likelihood_loss(logits: Map, truth: Mask, temperature: float) -> float:
    p = expit(np.where(truth, logits, -logits) / temperature).mean(axis=0)
    return float(-np.log(p).mean())


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), temperature=st.floats(0.3, 4))
def test_no_temperature_is_likelier(seed: int, temperature: float) -> None:
    logits, truth = draw(seed, temperature, pixels=400)
    found = fit_temperature(logits, truth)
    best = likelihood_loss(logits, truth, found)
    assert all(best <= likelihood_loss(logits, truth, t) + 1e-9 for t in np.geomspace(0.06, 19, 60))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), factor=st.floats(0.5, 2))
def test_temperature_follows_the_logits(seed: int, factor: float) -> None:
    """c times the logits need c times T; the order of samples and pixels, and a change of sides, do not matter."""
    logits, truth = draw(seed, 1.5, pixels=400)
    found = fit_temperature(logits, truth)
    rng = np.random.default_rng(seed)
    pixels = rng.permutation(truth.size)
    assert fit_temperature(factor * logits, truth) == pytest.approx(factor * found, rel=1e-3)
    assert fit_temperature(rng.permutation(logits)[:, pixels], truth[pixels]) == pytest.approx(found, rel=1e-3)
    assert fit_temperature(-logits, ~truth) == pytest.approx(found, rel=1e-3)
    assert fit_temperature(np.vstack([logits, logits]), truth) == pytest.approx(found, rel=1e-3)


def test_a_single_deep_error_does_not_break_the_fit() -> None:
    """Sigmoids underflow at these logits; the loss must not become infinite."""
    logits, truth = coin(4.0, 500, 100)
    logits = np.hstack([logits, [[-900.0]]])
    found = fit_temperature(logits, np.append(truth, True))
    assert 4 / math.log(5) < found < 20


def test_logarithms_stay_exact_where_sigmoids_vanish() -> None:
    x = np.array([[-2.0, -1000.0, 50.0], [1.0, -1001.0, 60.0]])
    lost = -1000 + math.log((1 + math.exp(-1)) / 2)
    assert log_mean_sigmoid(x) == pytest.approx([math.log((expit(-2.0) + expit(1.0)) / 2), lost, 0.0])


@pytest.mark.parametrize("both", [True, False])
def test_truth_of_one_class_has_no_temperature(both: bool) -> None:
    with pytest.raises(CalibrationError, match=f"all 3 pixels are {both}"):
        fit_temperature(np.zeros((2, 3)), np.full(3, both))


def test_what_no_finite_temperature_fits_is_said() -> None:
    truth = np.array([True, True, False, False])
    perfect = np.where(truth, 3.0, -3.0)[None]
    for logits in (perfect, -perfect, 30 * perfect, 0 * perfect):
        with pytest.raises(CalibrationError, match="separate the truth perfectly or have nothing to do with it"):
            fit_temperature(logits, truth)


@pytest.mark.parametrize(
    ("logits", "truth"),
    [
        (np.zeros(3), np.ones(3, dtype=bool)),
        (np.zeros((2, 3)), np.ones(2, dtype=bool)),
        (np.zeros((2, 3)), np.ones(3)),
        (np.zeros((0, 3)), np.ones(3, dtype=bool)),
        (np.zeros((2, 0)), np.ones(0, dtype=bool)),
        (np.array([[math.nan, 0.0]]), np.array([True, False])),
        (np.array([[math.inf, 0.0]]), np.array([True, False])),
    ],
)
def test_what_are_no_logits_is_refused(logits: Map, truth: Mask) -> None:
    with pytest.raises(ValueError, match="logits must be") as caught:
        fit_temperature(logits, truth)
    assert not isinstance(caught.value, CalibrationError)


def test_the_band_is_the_truth_and_what_is_near() -> None:
    truth = np.zeros((20, 30), dtype=bool)
    truth[8:12, 10:15] = True
    band = band_mask(truth, 3)
    assert band.sum() == (4 + 6) * (5 + 6)
    assert band[5, 7]
    assert not band[4, 7]
    assert np.array_equal(band_mask(truth, 0), truth)
    assert band_mask(np.zeros((20, 30), dtype=bool), 3).all()


@settings(deadline=None)
@given(limit=st.integers(1, 700), radius=st.integers(0, 5), seed=st.integers(0, 99))
def test_pixels_are_taken_evenly_and_without_chance(limit: int, radius: int, seed: int) -> None:
    truth = np.random.default_rng(seed).random((25, 25)) < 0.02
    everything = band_pixels(truth, radius=radius)
    assert np.array_equal(everything, np.flatnonzero(band_mask(truth, radius)))
    some = band_pixels(truth, radius=radius, limit=limit)
    assert len(some) == min(limit, len(everything))
    places = np.searchsorted(everything, some)
    assert np.array_equal(everything[places], some)
    if len(some) > 1:
        gaps = np.diff(places)
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1


def test_a_limit_is_a_number_of_pixels() -> None:
    with pytest.raises(ValueError, match="limit must be at least 1 pixel, got 0"):
        band_pixels(np.ones((4, 4), dtype=bool), limit=0)


def test_calibration_error_has_its_closed_forms() -> None:
    truth = np.arange(1000) % 10 < 3
    assert expected_calibration_error(np.full(1000, 0.3), truth) == pytest.approx(0)
    assert expected_calibration_error(np.full(1000, 0.5), truth) == pytest.approx(0.2)
    assert expected_calibration_error(truth.astype(float), truth) == 0
    assert expected_calibration_error(1.0 - truth, truth, bins=10) == 1
    halves = np.repeat([0.1, 0.9], 500)
    assert expected_calibration_error(halves, truth, bins=2) == pytest.approx((0.2 + 0.6) / 2)
    assert expected_calibration_error(halves, truth, bins=1) == pytest.approx(0.5 - 0.3)


def test_bins_hold_equally_many_pixels() -> None:
    """Nine of ten pixels lie below 0.1; bins of equal width would be one bin there and hide both gaps."""
    probability = np.concatenate([np.repeat([0.01, 0.05], 450), np.full(100, 0.9)])
    truth = np.concatenate([np.arange(450) % 10 == 0, np.zeros(450, dtype=bool), np.arange(100) < 90])
    assert expected_calibration_error(probability, truth, bins=20) == pytest.approx(0.45 * 0.09 + 0.45 * 0.05)


@st.composite
def stated(draw: st.DrawFn) -> tuple[Map, Mask]:
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    size, digits = draw(st.integers(1, 200)), draw(st.integers(1, 8))
    return rng.random(size).round(digits), rng.random(size) < draw(st.floats(0, 1))


@settings(deadline=None)
@given(pair=stated(), bins=st.integers(1, 40), seed=st.integers(0, 99))
def test_calibration_error_is_bounded_and_knows_no_order(pair: tuple[Map, Mask], bins: int, seed: int) -> None:
    p, truth = pair
    got = expected_calibration_error(p, truth, bins)
    assert abs(p.mean() - truth.mean()) - 1e-12 <= got <= 1
    order = np.random.default_rng(seed).permutation(p.size)
    assert expected_calibration_error(p[order], truth[order], bins) == pytest.approx(got, abs=1e-12)
    assert expected_calibration_error(p[None], truth[None], bins) == got
    if p.size % bins == 0:
        assert expected_calibration_error(1 - p, ~truth, bins) == pytest.approx(got, abs=1e-9)


def test_a_fitted_temperature_calibrates() -> None:
    logits, truth = draw(3, 2.5, pixels=40_000)
    before = expected_calibration_error(expit(logits).mean(axis=0), truth)
    after = expected_calibration_error(expit(logits / fit_temperature(logits, truth)).mean(axis=0), truth)
    assert after < 0.015 < 0.05 < before


@pytest.mark.parametrize(
    ("p", "truth", "bins", "named"),
    [
        (np.zeros(3), np.zeros(2, dtype=bool), 15, "truth must be bool"),
        (np.zeros(3), np.zeros(3), 15, "truth must be bool"),
        (np.zeros(0), np.zeros(0, dtype=bool), 15, "not empty"),
        (np.zeros(3), np.zeros(3, dtype=bool), 0, "bins must be at least 1, got 0"),
        (np.array([0.5, math.nan]), np.zeros(2, dtype=bool), 15, "probability must be in"),
        (np.array([0.5, 1.1]), np.zeros(2, dtype=bool), 15, "probability must be in"),
    ],
)
def test_what_are_no_probabilities_is_refused(p: Map, truth: Mask, bins: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        expected_calibration_error(p, truth, bins)


def images(count: int) -> tuple[list[Map], list[Map], list[Mask], list[float], list[float]]:
    """Discs that are found ever worse; entropy maps; one image without truth."""
    y, x = np.mgrid[:64, :64] - 32
    probability, uncertainty, truth = [], [], []
    for k in range(count):
        p = expit((12 - np.hypot(x, y)) / 2)
        probability.append(p)
        uncertainty.append(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)))
        truth.append(np.hypot(x - k, y) <= 12 if k != 1 else np.zeros((64, 64), dtype=bool))
    dice = [2 * ((p > 0.5) & t).sum() / ((p > 0.5).sum() + t.sum()) for p, t in zip(probability, truth, strict=True)]
    return probability, uncertainty, truth, [0.1 * k for k in range(count)], [float(d) for d in dice]


def test_the_report_is_its_parts_over_the_pooled_bands() -> None:
    probability, uncertainty, truth, unsure, dice = images(6)
    got = report_calibration(
        probability=probability,
        uncertainty=uncertainty,
        truth=truth,
        image_uncertainty=unsure,
        dice=dice,
        temperature=1.7,
        radius=3,
        limit=None,
    )
    band = [band_mask(t, 3) for t in truth]
    p, u, t = (
        np.concatenate([m[b] for m, b in zip(maps, band, strict=True)]) for maps in (probability, uncertainty, truth)
    )
    risk = [1 - d for d in dice]
    assert got == CalibrationReport(
        temperature=1.7,
        ece=expected_calibration_error(p, t),
        error_auroc=error_auroc(u, (p > 0.5) != t),
        aurc=risk_coverage(unsure, risk),
        excess_aurc=excess_aurc(unsure, risk),
        spearman=spearman(unsure, risk),
        images=6,
        pixels=sum(int(b.sum()) for b in band),
    )
    assert got.error_auroc is not None
    assert 0.5 < got.error_auroc < 1
    assert 4096 < got.pixels < 6 * 4096
    assert CalibrationReport(**json.loads(json.dumps(got.to_dict(), allow_nan=False))) == got


def test_a_sample_of_pixels_tells_nearly_the_same() -> None:
    probability, uncertainty, truth, unsure, dice = images(6)
    few, many = (
        report_calibration(
            probability=probability,
            uncertainty=uncertainty,
            truth=truth,
            image_uncertainty=unsure,
            dice=dice,
            radius=8,
            limit=limit,
        )
        for limit in (400, None)
    )
    assert few.pixels == 6 * 400 < many.pixels
    assert few.aurc == many.aurc
    assert few.error_auroc == pytest.approx(many.error_auroc, abs=0.05)


def test_figures_without_a_value_are_none() -> None:
    truth = np.zeros((16, 16), dtype=bool)
    truth[4:12, 4:12] = True
    got = report_calibration(
        probability=[truth.astype(float)], uncertainty=[np.zeros((16, 16))], truth=[truth], image_uncertainty=[0.0],
        dice=[1.0],
    )  # fmt: skip
    assert (got.error_auroc, got.spearman, got.ece, got.aurc, got.excess_aurc) == (None, None, 0, 0, 0)


def test_lists_that_do_not_fit_are_refused() -> None:
    probability, uncertainty, truth, unsure, dice = images(3)

    def report(p: list[Map], t: list[Mask], d: list[float]) -> CalibrationReport:
        return report_calibration(probability=p, uncertainty=uncertainty, truth=t, image_uncertainty=unsure, dice=d)

    with pytest.raises(ValueError, match=r"got lengths \[2, 3\]"):
        report(probability, truth, dice[:2])
    with pytest.raises(ValueError, match="maps of image 1 must have one shape"):
        report([probability[0], probability[1][:9], probability[2]], truth, dice)
    with pytest.raises(ValueError, match=r"dice must be in 0\.\.1, got 1.5"):
        report(probability, truth, [0.5, 1.5, 0.5])
    with pytest.raises(ValueError, match=r"dice must be in 0\.\.1, got nan"):
        report(probability, truth, [0.5, math.nan, 0.5])
    with pytest.raises(ValueError, match="at least one, got lengths"):
        report_calibration(probability=[], uncertainty=[], truth=[], image_uncertainty=[], dice=[])
