"""What a model makes of the validation images, in one pass: Dice for the gate, and what its calibration needs."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.predict.predictor import Predictor
from maskloop_learner.train.calibration import (
    Band,
    CalibrationReport,
    expected_calibration_error,
    reliability,
    report_bands,
    take_band,
)
from maskloop_learner.train.examples import Example
from maskloop_learner.train.metrics import dice
from maskloop_learner.train.prompts import validation_prompts

Tick = Callable[[str, int, int], None]
"""Called with what is being done, how many images of it are done, and of how many; may raise to stop."""


@dataclass(frozen=True)
class Answer:
    """What a model made of one label on one image; about 90 kB, whatever the image's size."""

    example: int
    """The image's place among the examples."""
    label: str
    area: float
    """Share of the image that the truth covers, 0..1."""
    dice: float
    uncertainty: float
    """Mean predictive entropy of the image, 0..1."""
    band: Band


def collect_answers(
    predictor: Predictor,
    examples: Sequence[Example],
    prompts: Mapping[str, str],
    *,
    temperature: float,
    how: Mapping[str, Any],
    tick: Tick,
    what: str = "validation",
) -> list[Answer]:
    """One answer for every example and label of `prompts` that was looked for on it, in the examples' order.

    An example's own prompt goes before that in `prompts`, unless it tells where the finding is. The noise depends on
    the images alone, so two models are compared under the same chance. `how` are `Predictor.predict`'s samples,
    threshold and areas; `tick` is called with `what`.
    """
    found = []
    for done, example in enumerate(examples):
        tick(what, done, len(examples))
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
            truth, maps = truth_of(example, label), prediction.maps
            if maps is None:
                raise ValueError(f"the prediction of {label!r} on {example.name} kept no maps")
            answer = Answer(
                example=done,
                label=label,
                area=float(truth.mean()),
                dice=dice(prediction.mask, truth),
                uncertainty=prediction.predictive_entropy,
                band=take_band(maps.probability, maps.predictive_entropy, truth),
            )
            found.append(answer)
    return found


def report_answers(answers: Sequence[Answer], *, temperature: float) -> dict[str, CalibrationReport]:
    """Label -> how far probabilities and uncertainties can be trusted. `temperature` is that of the answers."""
    return {
        label: report_bands(
            [each.band for each in mine],
            image_uncertainty=[each.uncertainty for each in mine],
            dice=[each.dice for each in mine],
            temperature=temperature,
        )
        for label, mine in by_label(answers).items()
    }


def calibration_errors(answers: Sequence[Answer]) -> dict[str, float]:
    """Label -> expected calibration error over all its answers' bands, 0..1."""
    return {
        label: expected_calibration_error(
            np.concatenate([each.band.probability for each in mine]), np.concatenate([each.band.truth for each in mine])
        )
        for label, mine in by_label(answers).items()
    }


def reliability_bins(answers: Sequence[Answer]) -> dict[str, list[list[float]]]:
    """Label -> bins [mean probability, share of foreground, pixels], for a reliability diagram; see `reliability`."""
    found = {}
    for label, mine in by_label(answers).items():
        p = np.concatenate([each.band.probability for each in mine])
        bins = reliability(p, np.concatenate([each.band.truth for each in mine]))
        found[label] = [[round(mean, 5), round(share, 5), pixels] for mean, share, pixels in bins]
    return found


def by_label(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    """Label -> its answers, in their order."""
    found: dict[str, list[Answer]] = {}
    for each in answers:
        found.setdefault(each.label, []).append(each)
    return found


def truth_of(example: Example, label: str) -> NDArray[np.bool_]:
    """The label's mask, empty where it is absent."""
    return example.masks.get(label, np.zeros(example.image.shape[:2], dtype=np.bool_))


def digest_of(example: Example) -> str:
    """A digest of the example's pixels."""
    return digest_pixels(example.image)


def digest_pixels(image: NDArray[np.uint8]) -> str:
    """SHA-256 in hex of an image's pixels."""
    return hashlib.sha256(image.tobytes()).hexdigest()
