"""What one round's model makes of images: how good its masks are, how sure it is, and what strategies choose by."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import overload

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.model.bases import Bases
from maskloop_learner.pool.masks import encode_mask
from maskloop_learner.predict.predictor import LabelPrediction, Predictor
from maskloop_learner.select.labelled import Mask, Subject
from maskloop_learner.select.plan import Plan
from maskloop_learner.select.quality import Sight, grid
from maskloop_learner.train.examples import Example
from maskloop_learner.train.metrics import dice

VERSION = "evaluation"
"""Of the chance in predictions: the same in every round, so that models are compared under the same."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One image that is not labelled yet, as one model sees it."""

    place: int
    """Of the plan's subjects."""
    scores: Mapping[str, Mapping[str, float]]
    """Measure -> aggregation -> the largest of the labels'."""
    shares: tuple[float, ...]
    """[L] of the image that each label's mask covers."""
    shown: Mapping[str, bytes]
    """Label -> the mask as PNG, for oracles that are swayed by it; else nothing."""


class Lessons(Sequence[Example]):
    """Subjects with the masks that were drawn, read when a training asks for them."""

    def __init__(self, plan: Plan, drawn: Mapping[int, Mapping[str, Mask]]) -> None:
        """drawn: place -> label -> mask. In the order of places, whatever the order in which they were chosen."""
        self._plan, self._places, self._drawn = plan, sorted(drawn), drawn

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> Example: ...
    @overload
    def __getitem__(self, at: slice) -> "Lessons": ...
    def __getitem__(self, at: int | slice) -> "Example | Lessons":
        if isinstance(at, slice):
            return Lessons(self._plan, {place: self._drawn[place] for place in self._places[at]})
        place = self._places[at]
        subject = self._plan.subjects[place]
        image, _ = subject.open()
        number = self._plan.ground.groups[place]
        # Early stopping holds whole groups out.
        group = f"group {number}" if number >= 0 else subject.name
        return Example(image, dict(self._drawn[place]), subject.name, dict(subject.prompts), group=group)


class Watcher:
    """A model, ready to look at a plan's subjects."""

    def __init__(self, plan: Plan, weights: bytes) -> None:
        """Raises CheckpointError and BackboneError, as `Predictor` does."""
        self._plan = plan
        precision = plan.learning["precision"]
        self._predictor = Predictor(weights=weights, device=plan.device, bases=Bases(plan.bases), precision=precision)

    def test(self, *, tick: Callable[[], None] = lambda: None) -> dict[str, Sight]:
        """Name -> what the model makes of each test image, beside the truth. Raises ItemError for a file that can no
        longer be read."""
        found = {}
        for place in self._plan.ground.test:
            subject = self._plan.subjects[place]
            image, truth = subject.open()
            told = self._predict(subject, image, keep_maps=True)
            found[subject.name] = see(told, truth, uncertainty=score_labels(told)["predictive_entropy"]["mean"])
            tick()
        return found

    def look(self, places: Iterable[int], *, tick: Callable[[], None] = lambda: None) -> list[Seen]:
        """What strategies may know of these subjects, in this order. Raises ItemError as `test`."""
        found, swayed = [], self._plan.oracle.swayed
        for place in places:
            subject = self._plan.subjects[place]
            told = self._predict(subject, subject.open()[0])
            found.append(
                Seen(
                    place=place,
                    scores=score_labels(told),
                    shares=tuple(float(each.mask.mean()) for each in told.values()),
                    shown={label: encode_mask(each.mask) for label, each in told.items()} if swayed else {},
                )
            )
            tick()
        return found

    def _predict(
        self, subject: Subject, image: NDArray[np.uint8], *, keep_maps: bool = False
    ) -> dict[str, LabelPrediction]:
        return self._predictor.predict(
            image,
            prompts=subject.prompts,
            version=VERSION,
            image_digest=hashlib.sha256(image.tobytes()).hexdigest(),
            keep_maps=keep_maps,
            **self._plan.predicting,
        )


def score_labels(told: Mapping[str, LabelPrediction]) -> dict[str, dict[str, float]]:
    """Measure -> aggregation -> the largest of the labels', which is what a project ranks an image by."""
    return {
        measure: {name: max(each.aggregates[measure][name] for each in told.values()) for name in values}
        for measure, values in next(iter(told.values())).aggregates.items()
    }


def see(told: Mapping[str, LabelPrediction], truth: Mapping[str, Mask], *, uncertainty: float) -> Sight:
    """One image's figures: mean Dice over its labels, and single pixels of all. Raises ValueError without maps."""
    entropy: list[NDArray[np.float32]] = []
    wrong: list[NDArray[np.bool_]] = []
    for label, each in told.items():
        if each.maps is None:
            raise ValueError(f"the prediction of {label!r} kept no maps")
        at = grid(each.mask.shape)
        entropy.append(each.maps.predictive_entropy[at].ravel())
        wrong.append((each.mask != truth[label])[at].ravel())
    return Sight(
        dice=fmean(dice(each.mask, truth[label]) for label, each in told.items()),
        uncertainty=uncertainty,
        entropy=np.concatenate(entropy),
        wrong=np.concatenate(wrong),
    )
