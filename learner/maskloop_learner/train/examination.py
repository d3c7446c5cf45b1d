"""What a freshly trained model is asked before it serves: temperature, calibration, and how few samples rank well."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.model.preprocess import shrink_mask
from maskloop_learner.predict.agreement import SamplingChoice, choose_sampling
from maskloop_learner.predict.predictor import LabelPrediction, Predictor
from maskloop_learner.predict.sampling import FIDELITIES, Sampling
from maskloop_learner.train.calibration import (
    CalibrationError,
    CalibrationReport,
    band_pixels,
    fit_temperature,
    report_calibration,
)
from maskloop_learner.train.examples import Example
from maskloop_learner.train.metrics import dice
from maskloop_learner.train.prompts import validation_prompts

TEMPERATURE_SAMPLES = 8
TEMPERATURE_PIXELS = 4096
"""Of each mask, evenly spread over the band around it."""
CANDIDATES = (FIDELITIES["rank"], Sampling("antithetic", 2), *(Sampling("monte-carlo", s) for s in (4, 8, 16)))
"""Ways to rank, cheapest first."""

Tick = Callable[[str, int, int], None]
"""Called with what is being done, how many images of it are done, and of how many; may raise to stop."""


@dataclass(frozen=True)
class Examination:
    """What is known of a model beside its Dice."""

    temperature: float = 1.0
    temperature_reason: str = ""
    calibration: dict[str, CalibrationReport] = field(default_factory=dict)
    """Label -> report on the validation set."""
    sampling: SamplingChoice | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types, for the model's manifest."""
        return {
            "temperature": self.temperature,
            "temperature_reason": self.temperature_reason,
            "calibration": {label: report.to_dict() for label, report in self.calibration.items()},
            "sampling": self.sampling.to_dict() if self.sampling else None,
        }


def choose_temperature(
    predictor: Predictor, examples: Sequence[Example], prompts: Mapping[str, str], *, tick: Tick
) -> tuple[float, str]:
    """The temperature that fits the validation examples best, one for all labels, and why it is that.

    1 where no finite temperature fits, with the reason. Prompts as in `measure`.
    """
    if not examples:
        return 1.0, "there are no validation images to fit a temperature on"
    logits: list[NDArray[np.float32]] = []
    truth: list[NDArray[np.bool_]] = []
    sampling = Sampling("monte-carlo", TEMPERATURE_SAMPLES)
    for done, example in enumerate(examples):
        tick("temperature", done, len(examples))
        for label, prompt in validation_prompts(example, prompts).items():
            found = predictor.sample_logits(
                example.image, prompt=prompt, sampling=sampling, version="temperature", image_digest=digest_of(example)
            )
            mask = shrink_truth(truth_of(example, label), found.shape[-1])
            pixels = band_pixels(mask, limit=TEMPERATURE_PIXELS)
            logits.append(found.reshape(len(found), -1)[:, pixels])
            truth.append(mask.ravel()[pixels])
    if not logits:
        return 1.0, "no label was looked for on the validation images"
    try:
        value = fit_temperature(np.concatenate(logits, axis=1), np.concatenate(truth))
    except CalibrationError as error:
        return 1.0, str(error)
    return round(value, 4), f"fitted on {len(examples)} validation images"


def report_labels(
    predictor: Predictor,
    examples: Sequence[Example],
    prompts: Mapping[str, str],
    *,
    temperature: float,
    how: Mapping[str, Any],
    tick: Tick,
) -> dict[str, CalibrationReport]:
    """Per label how far probabilities and uncertainties can be trusted on the examples that know it; a label that none
    knows is left out. Prompts as in `measure`.

    `how` are `Predictor.predict`'s samples, threshold and areas.
    """
    found: dict[str, list[LabelPrediction]] = {label: [] for label in prompts}
    for done, example in enumerate(examples):
        tick("calibration", done, len(examples))
        predictions = predictor.predict(
            example.image,
            prompts=validation_prompts(example, prompts),
            temperature=temperature,
            version="evaluation",
            image_digest=digest_of(example),
            keep_maps=True,
            **how,
        )
        for label, prediction in predictions.items():
            found[label].append(prediction)
    knowing = {label: [example for example in examples if example.knows(label)] for label in prompts}
    return {label: report_label(found[label], knowing[label], label, temperature) for label in prompts if found[label]}


def report_label(
    predictions: Sequence[LabelPrediction], examples: Sequence[Example], label: str, temperature: float
) -> CalibrationReport:
    """The report of one label's predictions, which must have kept their maps."""
    truths = [truth_of(example, label) for example in examples]
    maps = [p.maps for p in predictions if p.maps is not None]
    if len(maps) != len(truths):
        raise ValueError(f"{len(truths)} predictions with maps are needed, got {len(maps)}")
    return report_calibration(
        probability=[m.probability for m in maps],
        uncertainty=[m.predictive_entropy for m in maps],
        truth=truths,
        image_uncertainty=[p.predictive_entropy for p in predictions],
        dice=[dice(p.mask, truth) for p, truth in zip(predictions, truths, strict=True)],
        temperature=temperature,
    )


def choose_ranking(
    predictor: Predictor,
    images: Sequence[NDArray[np.uint8]],
    prompts: Mapping[str, str],
    *,
    temperature: float,
    how: Mapping[str, Any],
    tick: Tick,
) -> SamplingChoice:
    """The cheapest sampling that orders the images as `how["samples"]` samples do; see `choose_sampling`."""
    samples = int(how["samples"])

    def score(sampling: Sampling, run: str) -> list[float]:
        scores = []
        for done, image in enumerate(images):
            tick(f"ranking by {sampling.method}/{sampling.samples}", done, len(images))
            found = predictor.predict(
                image,
                prompts=prompts,
                temperature=temperature,
                version=run,
                image_digest=digest_pixels(image),
                **{**how, "method": sampling.method, "samples": sampling.samples},
            )
            scores.append(max(each.predictive_entropy for each in found.values()))
        return scores

    full = Sampling("monte-carlo", samples)
    cheaper = [each for each in CANDIDATES if each.samples < samples or each.samples == 1 < samples]
    # Runs of their own names: samples that two shared would make them look more alike than they are.
    return choose_sampling(
        {f"{each.method}/{each.samples}": partial(score, each, f"candidate {each.method}") for each in cheaper},
        reference=score(full, "reference"),
        second=score(full, "second"),
        samples=samples,
    )


def truth_of(example: Example, label: str) -> NDArray[np.bool_]:
    """The label's mask, empty where it is absent."""
    return example.masks.get(label, np.zeros(example.image.shape[:2], dtype=np.bool_))


def shrink_truth(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """[H, W] -> [size, size]: cells that the mask covers by more than half."""
    return np.asarray(shrink_mask(mask, size).numpy() > 127)


def digest_of(example: Example) -> str:
    """A digest of the example's pixels."""
    return digest_pixels(example.image)


def digest_pixels(image: NDArray[np.uint8]) -> str:
    """SHA-256 in hex of an image's pixels."""
    return hashlib.sha256(image.tobytes()).hexdigest()
