"""What a batch as a whole says of itself: where a strategy could not do what it is for."""

import math
from dataclasses import replace

import numpy as np
import pytest
from choosing_fixture import make_candidates, unit

from maskloop_learner.select.candidates import Candidates
from maskloop_learner.select.choosing import Options, make_choice

PLAIN = Options(random_share=0, keep_duplicates=True)


def note_of(candidates: Candidates, strategy: str, size: int = 3) -> str:
    return make_choice(candidates, strategy=strategy, size=size, seed=0, options=PLAIN).note


def test_a_choice_that_lacks_nothing_says_nothing() -> None:
    """Every strategy found what it is for."""
    whole = make_candidates([0.9, 0.8, 0.7, 0.6], embeddings=unit([[1, 0], [0, 1], [-1, 0], [0, -1]]))
    whole = replace(whole, shares=np.full((4, 2), 0.1), labels=("Tumor", "Cyst"))
    for name in ("uncertainty", "power", "diverse", "typiclust", "claspe", "random", "foreground_random"):
        assert note_of(whole, name) == "", name


def test_images_without_a_score_are_counted() -> None:
    """They came last; the score that they lack is named."""
    some = make_candidates([0.9, math.nan, math.nan, 0.6])
    wanted = "2 of 4 candidates came last, as predictive_entropy/mean is not known of them"
    assert note_of(some, "uncertainty") == wanted


def test_diverse_without_scores_spreads_over_all() -> None:
    """It does not claim to have looked at the uncertain ones."""
    unscored = make_candidates([math.nan] * 3, embeddings=unit([[1, 0], [0, 1], [-1, 0]]))
    wanted = "No image is scored, so they are spread over all images, not over the most uncertain ones"
    assert note_of(unscored, "diverse", 2) == wanted


@pytest.mark.parametrize(("name", "how"), [("diverse", "by their uncertainty"), ("typiclust", "by lot")])
def test_images_without_an_embedding_are_told_of(name: str, how: str) -> None:
    """Only when they had to be taken."""
    vectors = unit([[1, 0], [0, 1], [1, 0], [0, 1]])
    vectors[2:] = math.nan
    some = make_candidates([0.9, 0.8, 0.7, 0.6], embeddings=vectors)
    assert note_of(some, name, 2) == ""
    assert note_of(some, name, 3) == f"1 image not embedded yet and chosen {how}, as no other was left"


def test_images_without_a_mask_are_told_of() -> None:
    """foreground_random had too few with one."""
    bare = replace(make_candidates([0.9, 0.8, 0.7]), shares=np.array([[0.1], [0.0], [math.nan]]))
    assert note_of(bare, "foreground_random", 1) == ""
    assert note_of(bare, "foreground_random", 3) == "2 images without a predicted mask chosen, as no other was left"


def test_a_label_that_is_predicted_nowhere_is_named() -> None:
    """Its part of a class-stratified batch went to the others."""
    one = replace(make_candidates([0.9, 0.8, 0.7]), shares=np.array([[0.1, 0.0]] * 3), labels=("Tumor", "Cyst"))
    assert note_of(one, "claspe", 2) == "Nothing of 'Cyst' is predicted, so its part went to the others"
