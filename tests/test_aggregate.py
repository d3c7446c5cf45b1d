"""Aggregations: closed forms on discs and squares, invariants, what is refused, and speed."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from maskloop_learner.predict.aggregate import (
    AGGREGATIONS,
    aggregate,
    band_radius,
    boundary_length,
    dilate,
    patch_side,
)

Map = NDArray[np.float64]
Mask = NDArray[np.bool_]

SIDE = 224
STRIP = math.pi**2 / (3 * math.log(2))
"""Integral of H(sigmoid(x)) / ln 2 over all x."""


def disc(radius: float, width: float, side: int = SIDE) -> tuple[Map, Mask]:
    """Predictive entropy and mask of p = sigmoid((radius - distance) / width)."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    logit = (radius - np.hypot(x, y)) / width
    log_in, log_out = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    entropy = -(np.exp(log_in) * log_in + np.exp(log_out) * log_out) / math.log(2)
    return entropy, logit > 0


@st.composite
def maps(draw: st.DrawFn) -> tuple[Map, Mask]:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    u = rng.random(shape) ** draw(st.floats(0.2, 9)) * draw(st.floats(0, 1))
    return u, rng.random(shape) < draw(st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]))


def test_all_aggregations_are_given_in_order() -> None:
    u, mask = disc(20, 1)
    assert tuple(aggregate(u, mask)) == AGGREGATIONS


@pytest.mark.parametrize("radius", [20, 40, 80])
@pytest.mark.parametrize("width", [1, 3])
def test_scores_of_a_disc_have_their_closed_forms(radius: int, width: int) -> None:
    """The mean is a perimeter meter; the boundary norm sees the blur alone."""
    got = aggregate(*disc(radius, width))
    perimeter = 2 * math.pi * radius
    assert got["mean"] == pytest.approx(STRIP * width * perimeter / SIDE**2, rel=0.01)
    assert got["boundary_norm"] == pytest.approx(STRIP * width, rel=0.01)


def test_a_uniform_map_scores_its_value() -> None:
    u = np.full((48, 64), 0.3)
    for mask in np.zeros(u.shape, dtype=bool), np.ones(u.shape, dtype=bool), disc(9, 1, 64)[1][8:56]:
        got = aggregate(u, mask)
        assert [got[name] for name in AGGREGATIONS[:4]] == pytest.approx([0.3] * 4)


def test_the_mask_leads_only_the_band_and_the_boundary() -> None:
    """A hot spot far from the mask is seen by patch_max, and not by foreground_band."""
    u, mask = np.zeros((64, 64)), np.zeros((64, 64), dtype=bool)
    mask[40:50, 40:50] = True
    u[:8, :8] = 1
    got = aggregate(u, mask)
    assert got["patch_max"] == 1
    assert got["foreground_band"] == 0
    assert got["mean"] == 64 / 4096
    assert got["top_q"] == pytest.approx(64 / math.ceil(0.05 * 4096))
    assert got["boundary_norm"] == pytest.approx(64 / boundary_length(mask))


@pytest.mark.parametrize(("shape", "count"), [((20, 20), 20), ((10, 14), 7), ((3, 7), 2), ((1, 1), 1)])
def test_the_top_is_a_twentieth_of_the_pixels_rounded_up(shape: tuple[int, int], count: int) -> None:
    u = np.zeros(shape[0] * shape[1])
    u[-count:] = 1
    empty = np.zeros(shape, dtype=bool)
    assert aggregate(u.reshape(shape), empty)["top_q"] == 1
    u[-1] = 0
    assert aggregate(u.reshape(shape), empty)["top_q"] == pytest.approx((count - 1) / count)


def test_patches_stay_inside_and_reach_the_corners() -> None:
    u = np.zeros((32, 40))
    u[-4:, -4:] = 0.5
    empty = np.zeros(u.shape, dtype=bool)
    assert patch_side(u.shape) == 4
    assert aggregate(u, empty)["patch_max"] == 0.5
    assert aggregate(np.roll(u, 2, axis=1), empty)["patch_max"] == 0.25


@settings(deadline=None)
@given(maps())
def test_patch_max_is_the_direct_maximum(pair: tuple[Map, Mask]) -> None:
    u, mask = pair
    side = patch_side(u.shape)
    direct = np.lib.stride_tricks.sliding_window_view(u, (side, side)).mean(axis=(2, 3)).max()
    assert aggregate(u, mask)["patch_max"] == pytest.approx(direct, abs=1e-12)


@settings(deadline=None)
@given(maps())
def test_an_empty_prediction_falls_back_to_the_strongest_patch(pair: tuple[Map, Mask]) -> None:
    """The boundary norm is then half the radius of a disc with that patch's uncertainty."""
    u, mask = pair[0], np.zeros(pair[0].shape, dtype=bool)
    got = aggregate(u, mask)
    assert got["foreground_band"] == got["patch_max"]
    radius = math.sqrt(got["patch_max"] * patch_side(u.shape) ** 2 / math.pi)
    assert got["boundary_norm"] == pytest.approx(radius / 2)
    full = aggregate(u, ~mask)
    assert full["boundary_norm"] == got["boundary_norm"]
    assert full["foreground_band"] == full["mean"]


def test_a_missed_lesion_stands_beside_found_ones() -> None:
    """Small or large: p just below one half inside, so that the mask is empty."""
    found = [aggregate(*disc(r, w))["boundary_norm"] for r, w in ((20, 1), (20, 3))]
    for radius in 10, 40:
        p = np.where(disc(radius, 1)[1], 0.49, 0.0)
        missed = np.where(p > 0, -(p * np.log2(p.clip(1e-9)) + (1 - p) * np.log2(1 - p)), 0)
        assert found[0] < aggregate(missed, p > 0.5)["boundary_norm"] < found[1]


@settings(deadline=None)
@given(maps())
def test_scores_keep_their_ranges_and_order(pair: tuple[Map, Mask]) -> None:
    u, mask = pair
    got = aggregate(u, mask)
    assert all(math.isfinite(x) and x >= 0 for x in got.values())
    assert max(got[name] for name in AGGREGATIONS[:4]) <= u.max() + 1e-12
    assert got["top_q"] >= got["mean"] - 1e-12
    if not any(n % patch_side(u.shape) for n in u.shape):  # then patches tile the image
        assert got["patch_max"] >= got["mean"] - 1e-12


@settings(deadline=None)
@given(maps())
def test_turned_images_score_the_same(pair: tuple[Map, Mask]) -> None:
    u, mask = pair
    for turn in (np.flipud, np.fliplr, np.transpose):
        assert aggregate(turn(u), turn(mask)) == pytest.approx(aggregate(u, mask), abs=1e-9)


@settings(deadline=None)
@given(pair=maps(), factor=st.floats(0, 1))
def test_scores_grow_with_the_map(pair: tuple[Map, Mask], factor: float) -> None:
    """Four are linear in it; the boundary norm is too, unless there is no boundary: then it goes with the root."""
    u, mask = pair
    whole, part = aggregate(u, mask), aggregate(u * factor, mask)
    root = "" if boundary_length(mask) else "boundary_norm"
    for name in AGGREGATIONS:
        power = 0.5 if name == root else 1
        assert part[name] == pytest.approx(factor**power * whole[name], rel=1e-6, abs=1e-6)


@settings(deadline=None)
@given(maps())
def test_a_map_without_uncertainty_scores_zero(pair: tuple[Map, Mask]) -> None:
    assert set(aggregate(np.zeros_like(pair[0]), pair[1]).values()) == {0.0}


@settings(deadline=None)
@given(maps())
def test_repeating_changes_no_bit_and_no_argument(pair: tuple[Map, Mask]) -> None:
    u, mask = pair[0].copy(), pair[1].copy()
    assert aggregate(u, mask) == aggregate(np.asfortranarray(u), mask.copy()) == aggregate(u, mask)
    assert np.array_equal(u, pair[0])
    assert np.array_equal(mask, pair[1])


def test_the_boundary_of_a_disc_is_its_circle_however_it_lies() -> None:
    for radius in (5, 20, 80):
        assert boundary_length(disc(radius, 1)[1]) == pytest.approx(2 * math.pi * radius, rel=0.035)
    square = np.zeros((99, 99), dtype=bool)
    square[20:70, 20:70] = True
    y, x = np.mgrid[:99, :99] - 49
    diamond = np.abs(x) + np.abs(y) <= 25 * math.sqrt(2)
    assert boundary_length(square) == pytest.approx(200, rel=0.06)
    assert boundary_length(diamond) == pytest.approx(200, rel=0.06)


@settings(deadline=None)
@given(maps())
def test_only_masks_that_are_all_one_have_no_boundary(pair: tuple[Map, Mask]) -> None:
    _, mask = pair
    assert (boundary_length(mask) > 0) == (mask.any() and not mask.all())
    assert boundary_length(mask) == boundary_length(~mask)


@settings(deadline=None)
@given(pair=maps(), radius=st.integers(0, 9))
def test_dilation_is_what_lies_within_the_radius(pair: tuple[Map, Mask], radius: int) -> None:
    _, mask = pair
    direct = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        direct[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = True
    assert np.array_equal(dilate(mask, radius), direct)
    assert dilate(mask, radius).dtype == np.bool_


def test_the_band_is_a_32nd_of_the_side() -> None:
    assert [band_radius((n, 2 * n)) for n in (1, 32, 224, 1024)] == [1, 1, 7, 32]
    with pytest.raises(ValueError, match="radius"):
        dilate(np.zeros((3, 3), dtype=bool), -1)


@pytest.mark.parametrize(
    ("u", "mask", "named"),
    [
        (np.zeros(4), np.zeros(4, dtype=bool), "H x W"),
        (np.zeros((0, 4)), np.zeros((0, 4), dtype=bool), "at least one pixel"),
        (np.zeros((4, 4)), np.zeros((4, 5), dtype=bool), r"mask must be bool \(4, 4\)"),
        (np.zeros((4, 4)), np.zeros((4, 4)), "float64"),
        (np.full((4, 4), math.nan), np.zeros((4, 4), dtype=bool), "nan"),
        (np.full((4, 4), math.inf), np.zeros((4, 4), dtype=bool), "inf"),
        (np.full((4, 4), -0.1), np.zeros((4, 4), dtype=bool), "-0.1"),
        (np.full((4, 4), 1.1), np.zeros((4, 4), dtype=bool), "ln 2"),
    ],
)
def test_what_is_no_uncertainty_map_is_refused(u: Map, mask: Mask, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        aggregate(u, mask)


def test_one_bad_pixel_is_refused() -> None:
    u, mask = disc(20, 1)
    u[3, 4] = math.nan
    with pytest.raises(ValueError, match="nan"):
        aggregate(u, mask)


def test_rounding_of_float32_is_not_refused() -> None:
    u = np.full((8, 8), 1 + 1e-7, dtype=np.float32)
    u[0, 0] = -1e-7
    got = aggregate(u, np.ones((8, 8), dtype=bool))
    assert 0.98 < got["mean"] < 1
    assert got["patch_max"] == 1


def test_all_five_take_few_milliseconds() -> None:
    """They run for four measures of every label of every image."""
    u, mask = disc(80, 3)
    u32 = u.astype(np.float32)

    def once() -> float:
        start = time.perf_counter()
        aggregate(u32, mask)
        return time.perf_counter() - start

    assert min(once() for _ in range(20)) < 0.005
