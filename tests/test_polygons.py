"""Masks as polygons: simplified with a stated tolerance, holes kept, and filled as Label Studio's page fills them."""

import math
import time

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from maskloop_backend.masks.filling import fill_polygon
from maskloop_backend.masks.keyholes import cut_keyholes
from maskloop_backend.masks.outlines import trace_outlines
from maskloop_backend.masks.polygons import (
    LARGEST_CHANGE,
    MOST_OUTLINES,
    PolygonError,
    decode_polygon,
    encode_polygons,
    is_noise,
)
from maskloop_learner.pool.masks import Mask


def back(rings: list[list[list[float]]], shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    for ring in rings:
        mask |= decode_polygon(ring, width=shape[1], height=shape[0])
    return mask


def overlap(left: Mask, right: Mask) -> float:
    return float((left & right).sum() / (left | right).sum())


def disc(size: int, x: float, y: float, radius: float) -> Mask:
    rows, columns = np.mgrid[:size, :size] + 0.5
    return np.asarray(np.hypot(rows - y * size, columns - x * size) < radius * size)


def shapes(size: int) -> dict[str, Mask]:
    """Smooth shapes of an image of size x size: whole, in parts, with holes and islands in them, over the border."""
    blobs = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((size, size)), size / 24)
    holes = disc(size, 0.35, 0.5, 0.1) | disc(size, 0.62, 0.42, 0.08) | disc(size, 0.6, 0.68, 0.05)
    return {
        "disc": disc(size, 0.5, 0.5, 0.3),
        "small": disc(size, 0.3, 0.7, 0.04),
        "parts": disc(size, 0.2, 0.3, 0.15) | disc(size, 0.7, 0.6, 0.2) | disc(size, 0.2, 0.8, 0.06),
        "holes": disc(size, 0.5, 0.5, 0.45) & ~holes,
        "island": (disc(size, 0.5, 0.5, 0.45) & ~disc(size, 0.5, 0.5, 0.3)) | disc(size, 0.5, 0.5, 0.12),
        "thin ring": disc(size, 0.5, 0.5, 0.4) & ~disc(size, 0.5, 0.5, 0.37),
        "cut off": disc(size, 0.0, 0.0, 0.5) | disc(size, 1.0, 0.6, 0.2),
        "blobs": blobs > 0.3 * blobs.std(),
        "blobs' background": blobs < 0.3 * blobs.std(),
        "everything": np.ones((size, size), dtype=bool),
    }


@pytest.mark.parametrize("size", [128, 256, 512, 1024])
def test_smooth_shapes_come_back_nearly_whole(size: int) -> None:
    """IoU at least 0.98, with few points: what a person can still correct."""
    for name, mask in shapes(size).items():
        rings = encode_polygons(mask)
        assert overlap(back(rings, mask.shape), mask) >= 0.98, name
        assert len(rings) == ndimage.label(mask)[1], name
    circle = encode_polygons(disc(size, 0.5, 0.5, 0.3))[0]
    assert len(circle) <= size / 4


@settings(max_examples=150, deadline=None)
@given(st.tuples(st.integers(1, 20), st.integers(1, 20)).flatmap(lambda shape: arrays(np.bool_, shape)))
def test_any_mask_comes_back_to_the_pixel_without_tolerance(mask: Mask) -> None:
    """However it is joined, punched or noisy."""
    assert np.array_equal(back(encode_polygons(mask, tolerance=0), mask.shape), mask)


@settings(max_examples=60, deadline=None)
@given(arrays(np.bool_, (14, 18)), st.floats(0.1, 5))
def test_simplifying_changes_few_pixels_whatever_the_tolerance(mask: Mask, tolerance: float) -> None:
    changed = back(encode_polygons(mask, tolerance=tolerance), mask.shape) != mask
    assert changed.sum() <= LARGEST_CHANGE * mask.sum()


@settings(max_examples=60, deadline=None)
@given(arrays(np.bool_, (12, 16)))
def test_keyholes_keep_the_area_and_cross_nothing(mask: Mask) -> None:
    """By winding and by parity the ring covers what the polygon with its holes covers."""
    for part in trace_outlines(mask):
        assert part.is_valid
        ring = cut_keyholes(part)
        whole = shapely.Polygon(ring)
        signed = float(shapely.LinearRing(ring).is_ccw) * 2 - 1
        assert signed * 2 * part.area == pytest.approx(
            float(np.sum(ring[:, 0] * np.roll(ring[:, 1], -1) - np.roll(ring[:, 0], -1) * ring[:, 1]))
        )
        # every cut is there and back, so what is left between the lines is the part and its holes
        assert shapely.make_valid(whole, method="linework").symmetric_difference(part).area == pytest.approx(0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.6, 0.9])
def test_pure_noise_takes_seconds_and_gives_few_polygons(share: float) -> None:
    """What a model may draw before it has learnt anything must not hold up the other images."""
    noise = np.random.default_rng(0).random((512, 512)) < share
    begin = time.process_time()
    rings = encode_polygons(noise)
    assert time.process_time() - begin < 20
    assert is_noise(noise)
    assert 0 < len(rings) <= MOST_OUTLINES
    assert sum(map(len, rings)) < 100_000


def test_a_thousand_cells_are_no_noise() -> None:
    rows, columns = np.mgrid[:640, :640] % 20 - 10
    cells = np.hypot(rows, columns) < 6
    cells[:, 639] = cells[:20, :] = cells[:40, :] = False
    assert not is_noise(cells)
    assert len(encode_polygons(cells)) == ndimage.label(cells)[1] > 900


def test_of_too_many_outlines_the_largest_are_drawn_and_the_smallest_holes_filled() -> None:
    """A block with a large hole and small ones, and specks."""
    mask = np.zeros((400, 400), dtype=bool)
    mask[::4, ::4] = True
    mask[90:310, 90:310] = False
    specks = mask.copy()
    mask[100:300, 100:300] = True
    mask[104:296:4, 104:296:4] = False
    mask[150:200, 150:200] = False
    drawn = back(encode_polygons(mask), mask.shape)
    assert not drawn[150:200, 150:200].any()
    assert drawn[100:300, 100:300].sum() >= 200 * 200 - 50 * 50 - MOST_OUTLINES
    assert overlap(drawn[100:300, 100:300], mask[100:300, 100:300]) > 0.92
    assert 0 < (drawn & specks).sum() < specks.sum()


def test_points_are_percent_of_the_image_and_deterministic() -> None:
    mask = np.zeros((50, 200), dtype=bool)
    mask[10:20, 40:100] = True
    (ring,) = encode_polygons(mask)
    assert encode_polygons(mask) == [ring]
    x, y = np.array(ring).T
    assert (x.min(), x.max(), y.min(), y.max()) == (20, 50, 20, 40)
    assert encode_polygons(np.zeros((5, 5), dtype=bool)) == []


def test_a_pixel_is_inside_when_its_centre_is() -> None:
    """Half a pixel of a side is a pixel only when it holds the centre; beyond the image nothing happens."""
    mask = np.zeros((4, 6), dtype=bool)
    fill_polygon(mask, np.array([[1.4, 0.4], [3.6, 0.4], [3.6, 2.6], [1.4, 2.6]]))
    wanted = np.zeros((4, 6), dtype=bool)
    wanted[0:3, 1:4] = True
    assert np.array_equal(mask, wanted)
    fill_polygon(mask, np.array([[-3.0, 3.4], [40.0, 3.4], [40.0, 9.0], [-3.0, 9.0]]))
    wanted[3] = True
    assert np.array_equal(mask, wanted)
    fill_polygon(mask, np.array([[10.0, 10.0], [20.0, 10.0], [20.0, 20.0]]))
    assert np.array_equal(mask, wanted)


def test_an_outline_that_crosses_itself_is_filled_as_the_page_shows_it() -> None:
    """A five-pointed star drawn in one go: its middle is painted, as a canvas does by default."""
    star = [[50 + 40 * math.sin(n * 0.8 * math.pi), 50 - 40 * math.cos(n * 0.8 * math.pi)] for n in range(5)]
    mask = decode_polygon(star, width=100, height=100)
    assert mask[50, 50]
    assert mask.sum() == pytest.approx(0.2806 * 80 * 80, rel=0.02)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (None, "got NoneType"),
        ([], "got 0 points"),
        ([[0, 0], [1, 1]], "got 2 points"),
        ([[0, 0], [1, 1], [2]], r"percent of the image, got \[2\]"),
        ([[0, 0], [1, 1], [2, "3"]], "percent of the image"),
        ([[0, 0], [1, 1], [2, True]], "percent of the image"),
        ([[0, 0], [1, 1], [2, math.nan]], "percent of the image"),
        ([[0, 0], [1, 1], [2, math.inf]], "percent of the image"),
        ([[0, 0], [1, 1], [640, 480]], "pixels, perhaps"),
        ([[0, -40], [1, 140]] * 20_000, "crosses rows 800000 times in an image of 1600 pixels"),
    ],
)
def test_what_is_no_polygon_says_why(points: object, reason: str) -> None:
    with pytest.raises(PolygonError, match=reason):
        decode_polygon(points, width=80, height=20)
