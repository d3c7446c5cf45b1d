"""Mask metrics: closed forms of squares and discs, empty masks, invariants, and MONAI as the reference."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from maskloop_learner.train.metrics import hausdorff95, iou, segmentation_metrics, surface_dice

Mask = NDArray[np.bool_]


def square(left: int, size: int = 20) -> Mask:
    mask = np.zeros((64, 80), dtype=bool)
    mask[20 : 20 + size, left : left + size] = True
    return mask


def disc(radius: float) -> Mask:
    y, x = np.mgrid[:101, :101] - 50
    return np.asarray(np.hypot(x, y) <= radius)


def blob(seed: int, *, shape: tuple[int, int] = (72, 60), level: float = 0.0) -> Mask:
    """Random smooth shapes, some of which touch the rim."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 5)
    return np.asarray(field / field.std() > level)


def test_equal_masks_are_perfect() -> None:
    for mask in square(10), disc(7), np.ones((5, 6), dtype=bool):
        assert segmentation_metrics(mask, mask.copy()) == {"dice": 1, "iou": 1, "nsd": 1, "hd95": 0}


@pytest.mark.parametrize("shift", [1, 3, 5, 12])
def test_shifted_squares_have_their_closed_forms(shift: int) -> None:
    got = segmentation_metrics(square(10), square(10 + shift))
    assert got["iou"] == pytest.approx((20 - shift) / (20 + shift))
    assert got["dice"] == pytest.approx((20 - shift) / 20)
    assert got["hd95"] == shift  # the sides that moved are a quarter of the boundary


@pytest.mark.parametrize(("shift", "tolerance"), [(5, 0), (5, 2), (5, 4), (12, 3)])
def test_surface_dice_of_shifted_squares_counts_pixels(shift: int, tolerance: int) -> None:
    """Of 4 * 20 - 4 pixels those of the other's rows and corners that are near: 2 * 20 - 2 shift + 4 tolerance."""
    got = surface_dice(square(10), square(10 + shift), tolerance=tolerance)
    assert got == pytest.approx((2 * 20 - 2 * shift + 4 * tolerance) / 76)
    assert surface_dice(square(10), square(10 + shift), tolerance=shift) == 1


def test_concentric_discs_are_their_radii_apart() -> None:
    small, large = disc(20), disc(30)
    assert iou(small, large) == pytest.approx(20**2 / 30**2, rel=0.01)
    assert hausdorff95(small, large) == pytest.approx(10, abs=0.5)
    assert surface_dice(small, large, tolerance=8) == 0
    assert surface_dice(small, large, tolerance=11) == 1


def test_far_specks_do_not_move_the_95th_percentile() -> None:
    """That is what it is for: a few pixels are no distance."""
    found = disc(20)
    found[0, 0] = True
    assert hausdorff95(found, disc(20)) == 0
    assert surface_dice(found, disc(20)) > 0.99


def test_empty_masks_have_values() -> None:
    empty, full = np.zeros((64, 80), dtype=bool), np.ones((64, 80), dtype=bool)
    assert segmentation_metrics(empty, empty) == {"dice": 1, "iou": 1, "nsd": 1, "hd95": 0}
    diagonal = math.hypot(64, 80)
    for mask in square(10), full:
        worst = {"dice": 0, "iou": 0, "nsd": 0, "hd95": diagonal}
        assert segmentation_metrics(mask, empty) == segmentation_metrics(empty, mask) == worst


def test_nothing_is_worse_than_an_empty_mask() -> None:
    corners = np.zeros((2, 40, 50), dtype=bool)
    corners[0, 0, 0] = corners[1, -1, -1] = True
    assert hausdorff95(*corners) == pytest.approx(math.hypot(39, 49))
    assert hausdorff95(*corners) < hausdorff95(corners[0], np.zeros((40, 50), dtype=bool))


@settings(deadline=None, max_examples=50)
@given(seeds=st.tuples(st.integers(0, 999), st.integers(0, 999)), level=st.floats(-3, 3), tolerance=st.floats(0, 9))
def test_metrics_are_symmetric_bounded_and_ordered(seeds: tuple[int, int], level: float, tolerance: float) -> None:
    a, b = blob(seeds[0]), blob(seeds[1], level=level)
    got = segmentation_metrics(a, b, tolerance=tolerance)
    assert got == segmentation_metrics(b, a, tolerance=tolerance)
    assert got == segmentation_metrics(a[::-1], b[::-1], tolerance=tolerance)
    assert 0 <= got["iou"] <= got["dice"] <= 1
    assert got["dice"] == pytest.approx(2 * got["iou"] / (1 + got["iou"]))
    assert 0 <= got["nsd"] <= surface_dice(a, b, tolerance=tolerance + 1) <= 1
    assert 0 <= got["hd95"] <= math.hypot(*a.shape)
    assert (got["iou"], got["nsd"], got["hd95"]) == (
        iou(a, b),
        surface_dice(a, b, tolerance=tolerance),
        hausdorff95(a, b),
    )


@pytest.fixture(scope="module")
def monai() -> Any:
    return pytest.importorskip("monai.metrics", reason="MONAI, the reference, is not installed")


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_monai_finds_the_same(monai: Any) -> None:
    """On shapes with holes and several parts, some at the rim; at tolerances between and on pixel distances."""
    import torch

    for seed in range(25):
        a, b = blob(seed, level=0.5), blob(seed + 1000, level=0.2)
        pair = [torch.from_numpy(mask)[None, None] for mask in (a, b)]
        distance = monai.compute_hausdorff_distance(*pair, include_background=True, percentile=95).item()
        assert hausdorff95(a, b) == pytest.approx(distance, rel=1e-5)
        for tolerance in (0, 1, 1.5, 2, 5):
            share = monai.compute_surface_dice(*pair, [tolerance], include_background=True).item()
            assert surface_dice(a, b, tolerance=tolerance) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize(
    ("found", "truth", "named"),
    [
        (np.zeros((4, 4), dtype=bool), np.zeros((4, 5), dtype=bool), r"one shape, got \(4, 4\) and \(4, 5\)"),
        (np.zeros((4, 4)), np.zeros((4, 4), dtype=bool), "found must be a bool mask H x W, got float64"),
        (np.zeros((4, 4), dtype=bool), np.zeros((4, 4, 1), dtype=bool), "truth must be a bool mask"),
        (np.zeros((0, 4), dtype=bool), np.zeros((0, 4), dtype=bool), "found must be"),
    ],
)
def test_what_are_no_two_masks_is_refused(found: Mask, truth: Mask, named: str) -> None:
    for metric in segmentation_metrics, iou, surface_dice, hausdorff95:
        with pytest.raises(ValueError, match=named):
            metric(found, truth)


@pytest.mark.parametrize("tolerance", [-1.0, math.nan, math.inf])
def test_a_tolerance_is_a_distance(tolerance: float) -> None:
    with pytest.raises(ValueError, match=f"tolerance must be 0 or more pixels, got {tolerance}"):
        surface_dice(disc(5), disc(6), tolerance=tolerance)
