"""Predictions: the same question has the same answer, whatever ran before."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.checkpoint import save_weights
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.predict.noise import draw_noise, sample_seed
from maskloop_learner.predict.predictor import LabelPrediction, Predictor
from maskloop_learner.train.evaluation import evaluate
from maskloop_learner.train.examples import Example
from maskloop_learner.train.metrics import dice

PROMPTS = {"White": "white matter in a brain MRI", "Grey": "grey matter in a brain MRI"}
HOW: dict[str, Any] = {"threshold": 0.5, "min_speck_area": 0, "max_hole_area": 0, "version": "v1"}


def picture(seed: int, height: int = 70, width: int = 50) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def weights() -> bytes:
    return save_weights(MedCLIPSeg(BACKBONES["nano"], seed=6), meta={})


@pytest.fixture(scope="module")
def predictor(weights: bytes) -> Predictor:
    return Predictor(weights=weights, device="cpu")


def same(a: dict[str, LabelPrediction], b: dict[str, LabelPrediction]) -> bool:
    """Equal to the bit."""
    return a.keys() == b.keys() and all(
        np.array_equal(a[x].mask, b[x].mask) and dataclasses.replace(a[x], mask=b[x].mask) == b[x] for x in a
    )


def test_a_result_depends_on_the_question_alone(predictor: Predictor, weights: bytes) -> None:
    def ask(who: Predictor, k: int) -> dict[str, LabelPrediction]:
        return who.predict(picture(k), prompts=PROMPTS, samples=12, image_digest=f"image-{k}", **HOW)

    alone = ask(Predictor(weights=weights, device="cpu"), 0)
    forward = [ask(predictor, k) for k in (0, 1, 2)]
    torch.manual_seed(99)
    backward = [ask(predictor, k) for k in (2, 1, 0)][::-1]
    assert same(alone, forward[0])
    assert all(same(a, b) for a, b in zip(forward, backward, strict=True))
    assert not same(forward[0], forward[1])


def test_a_label_does_not_depend_on_the_others(predictor: Predictor) -> None:
    both = predictor.predict(picture(0), prompts=PROMPTS, samples=3, image_digest="a", **HOW)
    grey = {"Grey": PROMPTS["Grey"]}
    one = predictor.predict(picture(0), prompts=grey, samples=3, image_digest="a", **HOW)
    assert same(one, {"Grey": both["Grey"]})


def test_shapes_and_ranges(predictor: Predictor) -> None:
    for height, width in ((1, 1), (37, 301), (400, 200)):
        found = predictor.predict(picture(1, height, width), prompts=PROMPTS, samples=2, image_digest="a", **HOW)
        for prediction in found.values():
            assert prediction.mask.shape == (height, width)
            assert prediction.mask.dtype == np.bool_
            assert 0 <= prediction.mutual_information <= prediction.predictive_entropy <= 1
            assert prediction.expected_entropy <= prediction.predictive_entropy
            assert 0 <= prediction.variance <= 0.25
            assert prediction.samples == 2
            inside = prediction.probability
            assert (0.5 < inside <= 1) if prediction.mask.any() else inside == 0


def test_a_mask_too_small_for_the_speck_limit_is_empty(predictor: Predictor) -> None:
    how = HOW | {"min_speck_area": 10**6}
    found = predictor.predict(picture(1), prompts=PROMPTS, samples=1, image_digest="a", **how)
    assert not any(p.mask.any() or p.probability for p in found.values())


def test_version_image_prompt_and_sample_each_change_the_noise() -> None:
    question: dict[str, Any] = {"version": "v", "image_digest": "i", "prompt_digest": "p", "sample": 0}
    seeds = {sample_seed(**question)}
    for other in ({"version": "vi"}, {"image_digest": "j"}, {"prompt_digest": "q"}, {"sample": 1}):
        seeds.add(sample_seed(**(question | other)))
    seeds.add(sample_seed(version="vi", image_digest="", prompt_digest="p", sample=0))
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_samples_noise_does_not_depend_on_the_samples_beside_it() -> None:
    shapes = [((3, 4), (5, 4)), ((3, 4), (5, 4))]
    cpu = torch.device("cpu")
    together, alone = draw_noise(shapes, [1, 2, 3], cpu), draw_noise(shapes, [2], cpu)
    for (a, b), (c, d) in zip(together, alone, strict=True):
        assert torch.equal(a[1:2], c)
        assert torch.equal(b[1:2], d)
    assert not torch.equal(together[0][0], together[1][0])


def test_out_of_range_arguments_are_named(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="samples"):
        predictor.predict(picture(0), prompts=PROMPTS, samples=0, image_digest="a", **HOW)
    with pytest.raises(ValueError, match="threshold"):
        predictor.predict(picture(0), prompts=PROMPTS, samples=1, image_digest="a", **HOW | {"threshold": 1.0})
    with pytest.raises(ValueError, match="RGB"):
        predictor.predict(picture(0)[..., 0], prompts=PROMPTS, samples=1, image_digest="a", **HOW)


def test_dice_of_known_overlaps() -> None:
    a, b, none = np.zeros((3, 4, 4), dtype=np.bool_)
    a[:2], b[1:3] = True, True
    assert dice(a, a) == 1
    assert dice(a, b) == 0.5
    assert dice(a, none) == 0
    assert dice(none, none) == 1


def test_evaluation_compares_with_the_truth_and_takes_an_absent_label_as_empty(predictor: Predictor) -> None:
    how: dict[str, Any] = {"samples": 2, "threshold": 0.5, "min_speck_area": 0, "max_hole_area": 0}
    blank = Example(image=picture(0), masks={}, name="blank")
    first = evaluate(predictor, [blank], PROMPTS, **how)
    assert set(first) == set(PROMPTS)
    assert set(first.values()) <= {0.0, 1.0}
    assert evaluate(predictor, [blank], PROMPTS, **how) == first
    with pytest.raises(ValueError, match="no examples"):
        evaluate(predictor, [], PROMPTS, **how)
