"""Who labels in a simulation: what each fault may and may not change."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from maskloop_learner.select.oracle import FARTHEST, ORACLES, Oracle, OracleError, jitter
from maskloop_learner.train.metrics import iou

Mask = NDArray[np.bool_]


def disc(radius: float, *, side: int = 96, at: tuple[float, float] = (48, 48)) -> Mask:
    """A disc in a square."""
    y, x = np.ogrid[:side, :side]
    return np.asarray((y - at[0]) ** 2 + (x - at[1]) ** 2 < radius**2)


def draw(spec: str, truth: Mask, *, shown: Mask | None = None, image: str = "a.png", seed: int = 0) -> Mask:
    """The mask that an oracle draws."""
    return Oracle.parse(spec).label(truth, shown=shown, image=image, label="lesion", seed=seed)


@pytest.mark.parametrize("spec", ["perfect", "noisy_boundary:0", "missing_small:0", "anchored:1"])
def test_an_oracle_without_its_fault_draws_the_truth(spec: str) -> None:
    """A copy of it: the truth itself is never handed out."""
    truth = disc(20)
    found = draw(spec, truth, shown=disc(18))
    assert np.array_equal(found, truth)
    assert found is not truth


@pytest.mark.parametrize("spec", ORACLES)
@pytest.mark.parametrize("truth", [np.zeros((40, 60), np.bool_), np.ones((40, 60), np.bool_)])
def test_empty_and_full_masks_stay(spec: str, truth: Mask) -> None:
    """There is no outline to stray from and no small part to miss."""
    assert np.array_equal(draw(spec, truth), truth)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.5, 6), st.integers(0, 2**31), st.floats(8, 30))
def test_a_noisy_outline_strays_no_farther_than_twice_its_pixels(pixels: float, seed: int, radius: float) -> None:
    """What lies farther from the outline, inside or outside, is as it was; the mask never vanishes."""
    truth = disc(radius)
    found = jitter(truth, pixels, np.random.default_rng(seed))
    inside, outside = ndimage.distance_transform_edt(truth), ndimage.distance_transform_edt(~truth)
    # Linear interpolation mixes pixels that are up to one diagonal away.
    far = np.maximum(inside, outside) > FARTHEST * pixels + 1.5
    assert np.array_equal(found[far], truth[far])
    assert found.any()


def test_a_noisy_outline_strays_by_about_its_pixels() -> None:
    """Over many images: the root mean square of the drawn outline's distance from the true one."""
    truth = disc(70, side=200, at=(100, 100))
    edge = ndimage.distance_transform_edt(~(truth & ~ndimage.binary_erosion(truth)))

    def stray(pixels: float) -> float:
        found = []
        for seed in range(20):
            mask = jitter(truth, pixels, np.random.default_rng(seed))
            found.append((edge[mask & ~ndimage.binary_erosion(mask)] ** 2).mean())
        return math.sqrt(float(np.mean(found)))

    for pixels in (2, 3, 5):
        assert 0.8 * pixels < stray(pixels) < 1.1 * pixels, pixels


def test_chance_follows_image_label_and_seed_alone() -> None:
    """The same person draws the same mask whichever strategy asks, and another one of another image."""
    truth = disc(20)
    assert np.array_equal(draw("noisy_boundary:4", truth), draw("noisy_boundary:4", truth))
    assert not np.array_equal(draw("noisy_boundary:4", truth), draw("noisy_boundary:4", truth, image="b.png"))
    assert not np.array_equal(draw("noisy_boundary:4", truth), draw("noisy_boundary:4", truth, seed=1))


def test_small_lesions_are_missed_and_large_ones_are_drawn_to_the_pixel() -> None:
    """By the share of the image that a connected part covers; corners connect."""
    large, small = disc(20, at=(30, 30)), disc(3, at=(80, 80))
    share = small.sum() / small.size
    assert np.array_equal(draw(f"missing_small:{share * 1.01}", large | small), large)
    assert np.array_equal(draw(f"missing_small:{share}", large | small), large | small)
    steps = np.eye(10, dtype=np.bool_)
    assert np.array_equal(draw("missing_small:0.1", steps), steps)


def test_an_anchored_person_leaves_a_good_mask_and_draws_over_a_bad_one() -> None:
    """The IoU must be above the level, not at it; without a mask there is nothing to leave."""
    truth, good, bad = disc(20), disc(19), disc(8)
    level = iou(good, truth)
    assert np.array_equal(draw(f"anchored:{level - 0.01}", truth, shown=good), good)
    assert np.array_equal(draw(f"anchored:{level}", truth, shown=good), truth)
    assert np.array_equal(draw("anchored:0.5", truth, shown=bad), truth)
    assert np.array_equal(draw("anchored:0", truth), truth)


def test_a_mask_that_was_shown_must_fit() -> None:
    """Another image's mask is a fault of the caller."""
    with pytest.raises(ValueError, match="shape of the truth"):
        draw("anchored", disc(20), shown=disc(9, side=30))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("kind", "oracle must be one of perfect, noisy_boundary, missing_small, anchored, got 'kind'"),
        ("perfect:1", "takes no level, got '1'"),
        ("noisy_boundary:much", "needs a level from 0 to 100, got 'much'"),
        ("anchored:1.5", "needs a level from 0 to 1, got '1.5'"),
        ("missing_small:nan", "needs a level from 0 to 1, got 'nan'"),
    ],
)
def test_an_oracle_that_there_is_not_is_named(spec: str, said: str) -> None:
    """With what there is, or what its level means."""
    with pytest.raises(OracleError, match=said):
        Oracle.parse(spec)


@pytest.mark.parametrize("spec", ["perfect", "noisy_boundary:3", "missing_small:0.01", "anchored:0.7"])
def test_an_oracle_reads_what_it_says(spec: str) -> None:
    """Its text is what it was made from; the default level is in it."""
    assert str(Oracle.parse(spec)) == spec
    assert str(Oracle.parse(spec.partition(":")[0])) == spec
