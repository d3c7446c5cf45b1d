"""How far a mask was changed: Dice of each label, and what counts as untouched."""

import numpy as np
import pytest

from maskloop_learner.evaluate.corrections import measure_correction
from maskloop_learner.pool.masks import Mask


def box(rows: int, *, columns: int = 4) -> Mask:
    """The first rows of an image of 10 x 10, in the first columns."""
    mask = np.zeros((10, 10), bool)
    mask[:rows, :columns] = True
    return mask


def test_dice_of_each_label_is_told() -> None:
    """A label without a mask is empty: against an empty one that is agreement, else none."""
    found = measure_correction({"a": box(4), "b": box(4), "c": box(0)}, {"a": box(2)}, known=None)
    assert found.dice == {"a": pytest.approx(2 * 8 / (16 + 8)), "b": 0.0, "c": 1.0}
    assert not found.unedited


def test_untouched_is_to_the_pixel() -> None:
    shown = {"a": box(4), "b": box(0)}
    assert measure_correction(shown, {"a": box(4)}, known=["a", "b"]).unedited
    almost = box(4)
    almost[9, 9] = True
    assert not measure_correction(shown, {"a": almost}, known=["a", "b"]).unedited


def test_what_the_model_cannot_draw_is_an_edit_and_no_dice() -> None:
    found = measure_correction({"a": box(4)}, {"a": box(4), "new": box(2)}, known=["a", "new"])
    assert found.dice == {"a": 1.0}
    assert not found.unedited


def test_what_the_annotator_could_not_draw_is_left_out() -> None:
    """A label that was in no tag of the annotator's page was not shown either."""
    found = measure_correction({"a": box(4), "gone": box(3)}, {"a": box(4)}, known=["a"])
    assert found.dice == {"a": 1.0}
    assert found.unedited


def test_masks_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        measure_correction({"a": box(4)}, {"a": np.zeros((5, 5), bool)}, known=None)
