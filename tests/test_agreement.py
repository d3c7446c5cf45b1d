"""The choice of samples: cheap where it ranks as well, full where evidence is lacking, lazy always."""

import json
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskloop_learner.predict.agreement import SamplingChoice, choose_sampling, parse_sampling

Candidates = dict[str, Callable[[], Sequence[float]]]

NAMES = ["mean-value/1", "antithetic/2", "monte-carlo/4", "monte-carlo/8", "monte-carlo/16"]
NOISE = [1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16]
"""Variance of each, in units of one sample's."""


def pool(
    images: int, spread: float, *, bias: float = 0.0, seed: int = 0
) -> tuple[Candidates, list[float], list[float]]:
    """Scores of images with a true uncertainty, seen through independent noise; `bias` spoils the cheapest."""
    rng = np.random.default_rng(seed)
    truth = rng.random(images)
    wrong = rng.random(images)

    def scores(variance: float, weight: float = 0.0) -> list[float]:
        return [float(x) for x in truth + weight * wrong + rng.normal(0, spread * math.sqrt(variance), images)]

    reference, second = scores(1 / 30), scores(1 / 30)
    drawn = {name: scores(v, bias if k == 0 else 0) for k, (name, v) in enumerate(zip(NAMES, NOISE, strict=True))}
    return {name: partial(list, values) for name, values in drawn.items()}, reference, second


def test_one_pass_is_enough_where_samples_hardly_differ() -> None:
    candidates, reference, second = pool(60, 0.001)
    choice = choose_sampling(candidates, reference=reference, second=second)
    assert (choice.method, choice.samples) == ("mean-value", 1)
    assert list(choice.tried) == ["mean-value/1"]
    assert choice.spearman == choice.tried["mean-value/1"]
    assert "60 images" in choice.reason


def test_costly_candidates_are_not_computed_when_a_cheap_one_is_enough() -> None:
    candidates, reference, second = pool(60, 0.001)

    def never() -> list[float]:
        raise AssertionError("computed without need")

    for name in NAMES[1:]:
        candidates[name] = never
    assert choose_sampling(candidates, reference=reference, second=second).samples == 1


def test_noisier_samples_need_more_of_them() -> None:
    """With each step in noise the choice moves to the right, to all 30 at last."""
    order = [*NAMES, "monte-carlo/30"]
    chosen = []
    for spread in (0.001, 0.1, 0.3, 1.0):
        candidates, reference, second = pool(400, spread)
        choice = choose_sampling(candidates, reference=reference, second=second)
        chosen.append(order.index(f"{choice.method}/{choice.samples}"))
    assert chosen == sorted(chosen)
    assert chosen[0] == 0
    assert chosen[-1] >= 4


def test_a_biased_pass_is_passed_over() -> None:
    """However exactly it repeats itself: its order is another one."""
    candidates, reference, second = pool(100, 0.001, bias=0.3)
    choice = choose_sampling(candidates, reference=reference, second=second)
    assert (choice.method, choice.samples) == ("antithetic", 2)
    assert choice.tried["mean-value/1"] < 0.98 < choice.tried["antithetic/2"]


def test_without_a_good_candidate_all_samples_are_kept() -> None:
    candidates, reference, second = pool(100, 0.02)
    bad: Candidates = {name: lambda: list(range(100)) for name in candidates}
    choice = choose_sampling(bad, reference=reference, second=second)
    assert (choice.method, choice.samples) == ("monte-carlo", 30)
    assert choice.spearman == choice.ceiling
    assert list(choice.tried) == NAMES
    assert "no cheaper way of 5" in choice.reason
    assert choose_sampling({}, reference=reference, second=second, samples=16).samples == 16


@pytest.mark.parametrize("images", [0, 1, 2, 3, 9])
def test_few_images_are_no_evidence(images: int) -> None:
    candidates, reference, second = pool(images, 0.001)
    choice = choose_sampling(candidates, reference=reference, second=second)
    assert (choice.method, choice.samples, choice.tried) == ("monte-carlo", 30, {})
    assert f"{images} images are too few" in choice.reason


def test_ten_images_are_evidence() -> None:
    candidates, reference, second = pool(10, 1e-6)
    assert choose_sampling(candidates, reference=reference, second=second).samples == 1


def test_constant_scores_keep_all_samples() -> None:
    candidates, reference, _ = pool(20, 0.001)
    choice = choose_sampling(candidates, reference=reference, second=[0.5] * 20)
    assert (choice.samples, choice.ceiling, choice.spearman, choice.tried) == (30, None, None, {})
    assert "no order" in choice.reason


def test_a_constant_candidate_orders_nothing() -> None:
    candidates, reference, second = pool(20, 0.001)
    candidates["mean-value/1"] = lambda: [0.5] * 20
    choice = choose_sampling(candidates, reference=reference, second=second)
    assert choice.tried["mean-value/1"] == 0
    assert choice.method == "antithetic"


def test_a_low_ceiling_is_no_reason_to_take_fewer() -> None:
    """Even a candidate that agrees better than the repetition does."""
    candidates, reference, second = pool(100, 5.0)
    candidates["mean-value/1"] = lambda: reference
    choice = choose_sampling(candidates, reference=reference, second=second)
    assert choice.samples == 30
    assert choice.tried == {}
    assert choice.ceiling is not None
    assert choice.ceiling < 0.7
    assert "fewer samples" in choice.reason


def test_a_wide_tolerance_still_asks_for_98_hundredths_of_the_ceiling() -> None:
    candidates, reference, second = pool(100, 0.001, bias=0.4)
    strict = choose_sampling(candidates, reference=reference, second=second, tolerance=0.01)
    wide = choose_sampling(candidates, reference=reference, second=second, tolerance=0.5)
    assert 0.5 < strict.tried["mean-value/1"] < 0.98
    assert (strict.method, wide.method) == ("antithetic", "antithetic")


@settings(deadline=None, max_examples=60)
@given(images=st.integers(0, 60), spread=st.floats(0, 3), bias=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_choice_is_always_backed_by_its_figures(images: int, spread: float, bias: float, seed: int) -> None:
    candidates, reference, second = pool(images, spread, bias=bias, seed=seed)
    choice = choose_sampling(candidates, reference=reference, second=second)
    assert list(choice.tried) == NAMES[: len(choice.tried)]
    if choice.samples < 30:
        assert images >= 10
        assert choice.ceiling is not None
        assert choice.ceiling >= 0.7
        *before, last = choice.tried.values()
        wanted = max(choice.ceiling - 0.01, 0.98 * choice.ceiling)
        assert choice.spearman == last >= wanted > max(before, default=-1)
    else:
        assert choice.spearman == choice.ceiling
    assert SamplingChoice(**json.loads(json.dumps(choice.to_dict(), allow_nan=False))) == choice


@pytest.mark.parametrize(
    "name", ["", "mean-value", "mean-value/2", "antithetic/3", "antithetic/0", "monte-carlo/0", "monte-carlo/-1",
             "monte-carlo/4.0", "monte-carlo/²", "dropout/8", "monte-carlo/8/2"],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="even N") as caught:
        parse_sampling(name)
    assert repr(name) in str(caught.value)
    with pytest.raises(ValueError, match="even N"):
        choose_sampling({name: list}, reference=[], second=[])


def test_wrong_lists_are_refused() -> None:
    candidates, reference, second = pool(20, 0.001)
    with pytest.raises(ValueError, match="second list must be a flat list of 20"):
        choose_sampling(candidates, reference=reference, second=second[:-1])
    with pytest.raises(ValueError, match="nan"):
        choose_sampling(candidates, reference=[*reference[:-1], math.nan], second=second)
    with pytest.raises(ValueError, match=r"tolerance must be .* got 1"):
        choose_sampling(candidates, reference=reference, second=second, tolerance=1)
    candidates["mean-value/1"] = lambda: reference[:-1]
    with pytest.raises(ValueError, match="mean-value/1 must give one score per image, 20, got 19"):
        choose_sampling(candidates, reference=reference, second=second)
