"""Whether uncertainty tells where a model is wrong."""

import numpy as np
import pytest

from maskloop_learner.select.quality import IMAGES, SIDE, Sight, grid, judge


def sight(dice: float, uncertainty: float, *, wrong: list[bool] | None = None) -> Sight:
    """An image of four pixels, the last of which is the most uncertain."""
    entropy = np.array([0.1, 0.2, 0.3, 0.9], np.float32)
    return Sight(dice, uncertainty, entropy, np.array(wrong or [False, False, False, True]))


def test_uncertainty_that_follows_the_error_is_perfect() -> None:
    """Image by image and pixel by pixel; no order has less risk."""
    found = judge([sight(0.9, 0.1), sight(0.6, 0.2), sight(0.3, 0.3)])
    assert found.images == 3
    assert found.spearman == 1
    assert found.auroc == 1
    assert found.e_aurc == 0
    assert found.aurc == pytest.approx((0.1 + 0.25 + 0.4) / 3)


def test_uncertainty_that_runs_against_the_error_is_worse_than_none() -> None:
    """Below 0 and below 0.5."""
    found = judge([sight(0.9, 0.3, wrong=[True, False, False, False]), sight(0.6, 0.2), sight(0.3, 0.1)])
    assert found.spearman == -1
    assert found.auroc is not None
    assert found.auroc < 1
    assert found.e_aurc is not None
    assert found.e_aurc > 0


def test_what_has_no_value_is_none() -> None:
    """Nothing left in the pool, nothing wrong, all images alike: no error and no made-up figure."""
    assert set(judge([]).to_dict().values()) == {0, None}
    alike = judge([sight(1.0, 0.2, wrong=[False] * 4)] * 4)
    assert alike.spearman is None
    assert alike.auroc is None
    assert alike.aurc == 0


def test_pixels_of_many_images_are_taken_from_some_at_even_steps() -> None:
    """Sorting them all would take long and say nothing new; images are all judged."""
    many = [sight(0.5, 0.1 + place / 1e4, wrong=[place % 2 == 0] * 4) for place in range(2 * IMAGES)]
    found = judge(many)
    assert found.images == 2 * IMAGES
    # Every other image is taken, and all of these are wrong everywhere: nothing to tell apart.
    assert found.auroc is None


@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (128, 128), (40, 56), (3, 900)])
def test_a_grid_takes_single_pixels_at_even_steps(shape: tuple[int, int]) -> None:
    """At most SIDE along the longer side, in the image's shape, all of a small image."""
    picked = np.arange(shape[0] * shape[1]).reshape(shape)[grid(shape)]
    assert max(picked.shape) == min(SIDE, max(shape))
    assert len(np.unique(picked)) == picked.size
    if max(shape) <= SIDE:
        assert picked.shape == shape
