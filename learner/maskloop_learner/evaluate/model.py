"""A trained model, ready to be evaluated, and its training on items of a data set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import overload

from maskloop_learner.data.files import open_item
from maskloop_learner.data.layout import Item
from maskloop_learner.evaluate.run import Case, Found, Image, Predict
from maskloop_learner.model.bases import Bases
from maskloop_learner.model.checkpoint import read_meta
from maskloop_learner.model.precision import Precision
from maskloop_learner.predict.predictor import Predictor
from maskloop_learner.predict.sampling import Method
from maskloop_learner.train.loop import Example, Progress, train

VERSION = "evaluation"
"""Of the chance in predictions: the same for every model, as in the gate."""


@dataclass(frozen=True)
class Machine:
    """Where and how a model is run."""

    device: str
    precision: Precision
    bases: Bases
    """The frozen towers of published backbones."""


@dataclass(frozen=True)
class Prediction:
    """How a mask is made; see `Predictor.predict`."""

    samples: int
    method: Method
    threshold: float
    min_speck_area: int
    max_hole_area: int
    temperature: float = 1.0


def open_model(weights: bytes, machine: Machine, how: Prediction) -> Predict:
    """A loaded model as `evaluate_cases` takes it. Raises CheckpointError and BackboneError, as `Predictor` does."""
    predictor = Predictor(weights=weights, device=machine.device, bases=machine.bases, precision=machine.precision)

    def predict(image: Image, prompts: Mapping[str, str], digest: str) -> Mapping[str, Found]:
        return predictor.predict(
            image, prompts=prompts, image_digest=digest, version=VERSION, keep_maps=True, **asdict(how)
        )

    return predict


def read_labels(weights: bytes) -> dict[str, str]:
    """The labels that a model was trained on, with their prompts. Raises CheckpointError for another file."""
    meta = read_meta(weights)
    labels, prompts = meta.get("labels"), meta.get("prompts")
    known = prompts if isinstance(prompts, dict) else {}
    return {str(label): str(known.get(label, "")) for label in labels} if isinstance(labels, list) else {}


def read_case(item: Item, *, label: str, prompt: str | None = None) -> Case:
    """An item's pixels, asked for by its own prompt or by `prompt`. Raises ItemError when it cannot be read."""
    image, mask = open_item(item)
    return Case(item.name, image, {label: mask}, {label: prompt or item.prompt})


class Lessons(Sequence[Example]):
    """Items as a training takes them in, read when they are asked for: a data set need not fit into memory."""

    def __init__(self, items: Sequence[Item], *, label: str) -> None:
        """Each item's prompt is its own."""
        self._items = items
        self._label = label

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> "Lessons": ...
    def __getitem__(self, place: int | slice) -> "Example | Lessons":
        if isinstance(place, slice):
            return Lessons(self._items[place], label=self._label)
        item = self._items[place]
        image, mask = open_item(item)
        return Example(image, {self._label: mask}, item.name, {self._label: item.prompt})


def learn(
    items: Sequence[Item],
    machine: Machine,
    *,
    label: str,
    backbone: str,
    steps: int,
    batch: int,
    seed: int,
    official: bool,
    checkpoint: Path,
    checkpoint_steps: int,
    on_progress: Callable[[Progress], None],
) -> bytes:
    """Train on items with their own prompts; goes on from `checkpoint`. `official`: loss and pixels as published.

    Raises TrainingError, BackboneError and, for an item that cannot be read, ItemError.
    """
    return train(
        Lessons(items, label=label),
        backbone=backbone,
        labels=[label],
        prompts={label: label},
        steps=steps,
        batch=batch,
        seed=seed,
        device=machine.device,
        bases=machine.bases,
        precision=machine.precision,
        dice="row" if official else "image",
        official_preprocessing=official,
        checkpoint=checkpoint,
        checkpoint_steps=checkpoint_steps,
        on_progress=on_progress,
        should_stop=lambda: False,
    )
