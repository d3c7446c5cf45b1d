"""From labelled images to results: predict each, measure it, show it to whoever watches."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.evaluate.results import UNCERTAINTIES, ImageResult
from maskloop_learner.train.metrics import segmentation_metrics

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class Maps(Protocol):
    """Pixel maps [H, W] float32 at the image's size, in 0..1."""

    @property
    def probability(self) -> NDArray[np.float32]:
        """Mean probability."""

    @property
    def predictive_entropy(self) -> NDArray[np.float32]:
        """Entropy of the mean probability."""


class Found(Protocol):
    """What a predictor says of one label (its `LabelPrediction`, with maps)."""

    @property
    def mask(self) -> Mask:
        """[H, W] of the image."""

    @property
    def probability(self) -> float:
        """Mean probability inside the mask."""

    @property
    def aggregates(self) -> Mapping[str, Mapping[str, float]]:
        """Measure -> aggregation -> value."""

    @property
    def maps(self) -> Maps | None:
        """Kept when asked for."""


Predict = Callable[[Image, Mapping[str, str], str], Mapping[str, Found]]
"""(image, prompts by label, SHA-256 of the image) -> predictions by label."""


@dataclass(frozen=True)
class Case:
    """One labelled image."""

    name: str
    image: Image
    """RGB [H, W, 3]."""
    truth: Mapping[str, Mask]
    """Label -> [H, W]; a label without a mask is absent from the image."""
    prompts: Mapping[str, str]
    """Label -> what is asked for."""


@dataclass(frozen=True)
class Look:
    """All that is known of one label in one image while it is at hand."""

    case: Case
    found: Found
    truth: Mask
    result: ImageResult


def evaluate_cases(cases: Iterable[Case], *, predict: Predict) -> Iterator[Look]:
    """Predict and measure one image after the other; labels in the order of the case's prompts.

    The chance in a prediction depends on the image alone, so two models are compared under the same.
    """
    for case in cases:
        digest = hashlib.sha256(case.image.tobytes()).hexdigest()
        empty = np.zeros(case.image.shape[:2], dtype=bool)
        for label, found in predict(case.image, case.prompts, digest).items():
            truth = case.truth.get(label, empty)
            yield Look(case, found, truth, make_result(case, label, found, truth))


def make_result(case: Case, label: str, found: Found, truth: Mask) -> ImageResult:
    """The figures of one label in one image."""
    metrics = segmentation_metrics(found.mask, truth)
    return ImageResult(
        name=case.name,
        label=label,
        prompt=case.prompts[label],
        **metrics,
        area_found=int(found.mask.sum()),
        area_truth=int(truth.sum()),
        probability=found.probability,
        uncertainties={name: float(getattr(found, name)) for name in UNCERTAINTIES},
        aggregates=found.aggregates,
    )
