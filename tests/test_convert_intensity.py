"""Windows and ranges: the standard's formulas, and what becomes of numbers that are none."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing

from maskloop_learner.convert.intensity import (
    FRAMES,
    Function,
    Range,
    Window,
    describe,
    draw_sample,
    find_range,
    spread,
    to_bytes,
)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # of pydicom
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(2048.0, 4096.0), (2048.0, 1.0), (0.0, 100.0), (40.5, 350.25)])
def test_windows_are_pydicoms(function: Function, centre: float, width: float) -> None:
    values = np.arange(-2000, 10_000).astype(np.float64) / 2
    told = Dataset()
    told.PhotometricInterpretation, told.BitsStored, told.PixelRepresentation = "MONOCHROME2", 12, 0
    told.WindowCenter, told.WindowWidth, told.VOILUTFunction = centre, width, function
    expected = apply_windowing(values, told) / 4095
    shown = Window(centre=centre, width=width, function=function).apply(values)
    assert np.abs(shown - expected).max() < 1e-9


def test_the_standards_own_examples() -> None:
    """PS3.3 C.11.2.1.2.1: centre 2048, width 4096 spans 0..4095; width 1 is a step after 2047.5."""
    whole = Window(centre=2048, width=4096, function="LINEAR")
    assert whole.apply(np.array([-1.0, 0, 4095, 4096])).tolist() == [0, 0, 1, 1]
    step = Window(centre=2048, width=1, function="LINEAR")
    assert step.apply(np.array([2047.0, 2047.5, 2048.0])).tolist() == [0, 0, 1]
    exact = Window(centre=10, width=10)
    assert exact.apply(np.array([5.0, 10, 15])).tolist() == [0, 0.5, 1]
    curve = Window(centre=0, width=4, function="SIGMOID").apply(np.array([-1e9, 0, 1e9]))
    assert curve == pytest.approx([0, 0.5, 1], abs=1e-12)


@pytest.mark.parametrize(
    ("centre", "width", "function"),
    [(0, 0, "LINEAR_EXACT"), (0, 0.5, "LINEAR"), (0, -1, "SIGMOID"), (np.nan, 1, "LINEAR"), (0, np.inf, "LINEAR")],
)
def test_a_window_without_width_is_refused(centre: float, width: float, function: Function) -> None:
    with pytest.raises(ValueError, match="window"):
        Window(centre=centre, width=width, function=function)


def test_a_range_ignores_what_is_no_number() -> None:
    values = np.concatenate([np.arange(1001.0), [np.nan, np.inf, -np.inf]])
    found = find_range(values, (1, 99))
    assert (found.low, found.high) == (10, 990)
    assert find_range(values, (0, 100)) == Range(0, 1000)
    assert find_range(np.array([np.nan]), (1, 99)) == Range(0, 0)


def test_a_range_of_mostly_air_reaches_to_the_greatest_value() -> None:
    values = np.zeros(10_000)
    values[:3] = 5, 6, 7
    assert find_range(values, (0.5, 99.5)) == Range(0, 7)


def test_extremes_stay_in_range() -> None:
    shown = Range(-1e308, 1e308).apply(np.array([-1e308, 0, 1e308, np.inf, -np.inf, np.nan]))
    assert to_bytes(shown).tolist() == [0, 128, 255, 255, 0, 0]
    assert to_bytes(Range(3, 3).apply(np.array([2.0, 3, 4, np.nan]))).tolist() == [0, 0, 0, 0]
    assert to_bytes(Window(centre=0, width=1, function="LINEAR").apply(np.array([np.nan, -1, 0.5]))).tolist() == [
        0,
        0,
        255,
    ]


def test_samples_are_the_same_every_time() -> None:
    values = np.arange(60_000).reshape(30, 20, 100)
    assert np.array_equal(draw_sample(values), values.reshape(-1))
    first, second = draw_sample(values, 5000), draw_sample(values, 5000)
    assert np.array_equal(first, second)
    assert abs(np.percentile(first, 50) - 30_000) < 1500
    assert spread(range(3, 9, 2)) == [3, 5, 7]
    many = spread(range(1000))
    assert (many[0], many[-1], len(many)) == (0, 999, FRAMES)


def test_an_origin_says_how_values_were_shown() -> None:
    window = Window(centre=40, width=400, function="LINEAR", source="file", alternatives=2)
    assert describe(window) == {
        "shown_by": "window",
        "window": {"centre": 40, "width": 400, "function": "LINEAR", "source": "file", "alternatives": 2},
        "range": None,
    }
    assert describe(Range(1, 2), by="bits") == {"shown_by": "bits", "window": None, "range": [1, 2]}
    assert describe(None) == {"shown_by": "colours", "window": None, "range": None}
