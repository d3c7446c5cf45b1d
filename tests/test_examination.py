"""What a trained model is asked before it serves: its temperature, its calibration, and how it ranks."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.checkpoint import load_weights, save_weights
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.predict.agreement import MIN_IMAGES
from maskloop_learner.predict.predictor import Predictor
from maskloop_learner.predict.sampling import Sampling
from maskloop_learner.train.answers import digest_of
from maskloop_learner.train.calibration import band_pixels
from maskloop_learner.train.examination import (
    CANDIDATES,
    TEMPERATURE_SAMPLES,
    Examination,
    choose_ranking,
    choose_temperature,
    report_labels,
    shrink_truth,
)
from maskloop_learner.train.examples import Example
from maskloop_learner.train.loop import TrainingCancelled, train

PROMPTS = {"Disc": "a bright disc"}
HOW: dict[str, Any] = {"samples": 4, "threshold": 0.5, "min_speck_area": 0, "max_hole_area": 0}
FIELDS = {"temperature", "ece", "error_auroc", "aurc", "excess_aurc", "spearman", "images", "pixels"}


def disc(seed: int) -> Example:
    """A disc on grey noise, fainter in every other image."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:90, :100]
    mask = np.hypot(y - rng.uniform(30, 60), x - rng.uniform(30, 70)) < rng.uniform(14, 26)
    grey = 110 + (70 if seed % 2 else 25) * mask + rng.normal(0, 12, mask.shape)
    image = np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return Example(image=image, masks={"Disc": mask}, name=f"image-{seed}")


EXAMPLES = [disc(seed) for seed in range(100, 104)]


def quiet(what: str, done: int, of: int) -> None:
    assert 0 <= done < of, what


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return train(
        [disc(seed) for seed in range(6)],
        backbone="nano",
        labels=list(PROMPTS),
        prompts=PROMPTS,
        steps=24,
        batch=2,
        seed=0,
        device="cpu",
        checkpoint=tmp_path_factory.mktemp("training") / "checkpoint.pt",
        checkpoint_steps=100,
        on_progress=lambda _: None,
        should_stop=lambda: False,
        start="random",
    )


@pytest.fixture(scope="module")
def predictor(weights: bytes) -> Predictor:
    return Predictor(weights=weights, device="cpu")


def scale_logits(weights: bytes, factor: float) -> Predictor:
    """The same model, more or less sure: its logits are linear in the head's last layer."""
    model = load_weights(weights, device="cpu")
    with torch.no_grad():
        last = cast(torch.nn.Linear, model.head.mask_head[4])
        for parameter in (last.weight, last.bias):
            parameter.mul_(factor)
    return Predictor(weights=save_weights(model, meta={}), device="cpu")


def negative_log_likelihood(predictor: Predictor, temperature: float) -> float:
    """Of the examples' bands, of the mean over samples: what the temperature is to lower."""
    found = []
    for example in EXAMPLES:
        logits = predictor.sample_logits(
            example.image,
            prompt=PROMPTS["Disc"],
            sampling=Sampling("monte-carlo", TEMPERATURE_SAMPLES),
            version="temperature",
            image_digest=digest_of(example),
        )
        mask = shrink_truth(example.masks["Disc"], logits.shape[-1])
        p = (1 / (1 + np.exp(-logits.astype(np.float64) / temperature))).mean(axis=0)
        found.append(-np.log(np.where(mask, p, 1 - p)).ravel()[band_pixels(mask)].mean())
    return float(np.mean(found))


def test_an_overconfident_model_is_cooled_down(weights: bytes, predictor: Predictor) -> None:
    """Logits four times as large want four times the temperature, and are then as likely as before."""
    usual, _ = choose_temperature(predictor, EXAMPLES, PROMPTS, tick=quiet)
    loud = scale_logits(weights, 4)
    temperature, reason = choose_temperature(loud, EXAMPLES, PROMPTS, tick=quiet)
    assert temperature > 1
    assert temperature == pytest.approx(4 * usual, rel=1e-2)
    assert reason == "fitted on 4 validation images"
    before, after = negative_log_likelihood(loud, 1.0), negative_log_likelihood(loud, temperature)
    assert after < 0.9 * before
    for other in (0.7 * temperature, 1.4 * temperature):
        assert after < negative_log_likelihood(loud, other)


def test_without_examples_the_temperature_is_one_and_nothing_is_reported(predictor: Predictor) -> None:
    assert choose_temperature(predictor, [], PROMPTS, tick=quiet) == (
        1.0,
        "there are no validation images to fit a temperature on",
    )
    assert report_labels(predictor, [], PROMPTS, temperature=1.0, how=HOW, tick=quiet) == {}
    nothing = choose_ranking(predictor, [], PROMPTS, temperature=1.0, how=HOW, tick=quiet)
    assert (nothing.method, nothing.samples, nothing.images, nothing.tried) == ("monte-carlo", 4, 0, {})


def test_masks_of_one_class_have_no_temperature(predictor: Predictor) -> None:
    """Examples without the label: every pixel is background."""
    blank = [Example(image=EXAMPLES[0].image, masks={}, name="blank")]
    temperature, reason = choose_temperature(predictor, blank, PROMPTS, tick=quiet)
    assert temperature == 1.0
    assert "needs both classes" in reason


def test_a_report_has_all_figures_of_each_label(predictor: Predictor) -> None:
    prompts = {**PROMPTS, "Absent": "something that is never there"}
    reports = report_labels(predictor, EXAMPLES, prompts, temperature=1.5, how=HOW, tick=quiet)
    assert list(reports) == ["Disc", "Absent"]
    for report in reports.values():
        figures = report.to_dict()
        assert set(figures) == FIELDS
        assert (figures["temperature"], figures["images"]) == (1.5, 4)
        assert 0 <= report.ece <= 1
        assert 0 <= report.excess_aurc <= report.aurc <= 1
        assert report.pixels > 1000
    auroc = reports["Disc"].error_auroc
    assert auroc is not None
    assert auroc > 0.5
    examination = Examination(1.5, "fitted", reports)
    assert examination.to_dict()["calibration"]["Disc"] == reports["Disc"].to_dict()
    assert examination.to_dict()["sampling"] is None


class Count:
    """Counts what `tick` is told."""

    def __init__(self) -> None:
        self.said: dict[str, int] = {}

    def __call__(self, what: str, done: int, of: int) -> None:
        assert done < of
        self.said[what] = self.said.get(what, 0) + 1


def pictures(count: int) -> list[NDArray[np.uint8]]:
    return [disc(seed).image for seed in range(200, 200 + count)]


def test_the_cheapest_way_that_orders_as_well_is_taken_and_no_other_is_tried(predictor: Predictor) -> None:
    """A trained model's order hardly depends on chance: one pass does."""
    tick, images = Count(), pictures(12)
    choice = choose_ranking(predictor, images, PROMPTS, temperature=1.0, how=HOW, tick=tick)
    assert choice.images == 12
    assert choice.ceiling is not None
    assert choice.ceiling > 0.9
    assert (choice.method, choice.samples) == ("mean-value", 1)
    assert choice.spearman is not None
    assert choice.spearman >= choice.ceiling - 0.02
    assert list(choice.tried) == ["mean-value/1"]
    # Two full runs and the chosen one, of twelve images each.
    assert tick.said == {"ranking by monte-carlo/4": 24, "ranking by mean-value/1": 12}


def test_a_model_whose_order_is_chance_keeps_all_samples() -> None:
    """Equal images but for a little noise, and values that vary wildly: two full runs disagree."""
    model = MedCLIPSeg(BACKBONES["nano"], seed=6)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("v_proj.bias"):
                parameter[len(parameter) // 2 :] += 100
    wild = Predictor(weights=save_weights(model, meta={}), device="cpu")
    base = disc(1).image
    images = [base.copy() for _ in range(MIN_IMAGES)]
    for k, image in enumerate(images):
        image[0, 0, 0] = k
    tick = Count()
    choice = choose_ranking(wild, images, PROMPTS, temperature=1.0, how=HOW, tick=tick)
    assert (choice.method, choice.samples, choice.tried) == ("monte-carlo", 4, {})
    assert choice.ceiling is not None
    assert choice.ceiling < 0.7
    assert "agree with Spearman" in choice.reason
    assert set(tick.said) == {"ranking by monte-carlo/4"}


def test_candidates_are_cheapest_first_and_never_cost_what_they_replace(predictor: Predictor) -> None:
    assert [c.samples for c in CANDIDATES] == sorted(c.samples for c in CANDIDATES)
    few = choose_ranking(
        predictor, pictures(MIN_IMAGES - 1), PROMPTS, temperature=1.0, how=HOW | {"samples": 2}, tick=quiet
    )
    assert "too few to compare orders" in few.reason
    assert few.samples == 2


@pytest.mark.parametrize(
    "work",
    [
        lambda p, tick: choose_temperature(p, EXAMPLES, PROMPTS, tick=tick),
        lambda p, tick: report_labels(p, EXAMPLES, PROMPTS, temperature=1.0, how=HOW, tick=tick),
        lambda p, tick: choose_ranking(p, pictures(3), PROMPTS, temperature=1.0, how=HOW, tick=tick),
    ],
    ids=["temperature", "calibration", "ranking"],
)
def test_each_question_ends_as_soon_as_it_is_told(predictor: Predictor, work: Callable[..., object]) -> None:
    """The tick before the second image raises: one image was looked at, and the error comes through."""
    calls = []

    def stop(what: str, done: int, of: int) -> None:
        calls.append(done)
        if done == 1:
            raise TrainingCancelled(f"cancelled during {what}")

    with pytest.raises(TrainingCancelled, match="cancelled during"):
        work(predictor, stop)
    assert calls == [0, 1]
