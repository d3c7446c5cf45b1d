"""What a freshly trained model is asked before it serves: temperature, calibration, and how few samples rank well."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.model.preprocess import shrink_mask
from maskloop_learner.predict.agreement import SamplingChoice, choose_sampling
from maskloop_learner.predict.predictor import Predictor
from maskloop_learner.predict.sampling import FIDELITIES, Sampling
from maskloop_learner.train.answers import (
    Tick,
    collect_answers,
    digest_of,
    digest_pixels,
    report_answers,
    truth_of,
)
from maskloop_learner.train.calibration import CalibrationError, CalibrationReport, band_pixels, fit_temperature
from maskloop_learner.train.examples import Example
from maskloop_learner.train.prompts import validation_prompts

TEMPERATURE_SAMPLES = 8
TEMPERATURE_PIXELS = 4096
"""Of each mask, evenly spread over the band around it."""
CANDIDATES = (FIDELITIES["rank"], Sampling("antithetic", 2), *(Sampling("monte-carlo", s) for s in (4, 8, 16)))
"""Ways to rank, cheapest first."""


@dataclass(frozen=True)
class Examination:
    """What is known of a model beside its Dice."""

    temperature: float = 1.0
    temperature_reason: str = ""
    calibration: dict[str, CalibrationReport] = field(default_factory=dict)
    """Label -> report on the validation set."""
    sampling: SamplingChoice | None = None
    dice: dict[str, Any] = field(default_factory=dict)
    """As `measure_confidence` gives it."""
    reliability: dict[str, list[list[float]]] = field(default_factory=dict)
    """As `reliability_bins` gives it."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types, for the model's manifest."""
        return {
            "temperature": self.temperature,
            "temperature_reason": self.temperature_reason,
            "calibration": {label: report.to_dict() for label, report in self.calibration.items()},
            "sampling": self.sampling.to_dict() if self.sampling else None,
            **({"dice": self.dice} if self.dice else {}),
            **({"reliability": self.reliability} if self.reliability else {}),
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
    knows is left out. As `collect_answers`.
    """
    answers = collect_answers(predictor, examples, prompts, temperature=temperature, how=how, tick=tick)
    return report_answers(answers, temperature=temperature)


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


def shrink_truth(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """[H, W] -> [size, size]: cells that the mask covers by more than half."""
    return np.asarray(shrink_mask(mask, size).numpy() > 127)
