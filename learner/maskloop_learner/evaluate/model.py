"""A trained model, ready to be evaluated, and its training on items of a data set."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from maskloop_learner.data.files import open_item
from maskloop_learner.data.layout import Item
from maskloop_learner.evaluate.run import Case, Found, Image, Predict
from maskloop_learner.model.checkpoint import read_meta
from maskloop_learner.predict.predictor import Predictor
from maskloop_learner.train.loop import Example, Progress, train

VERSION = "evaluation"
"""Of the chance in predictions: the same for every model, as in the gate."""


def open_model(weights: bytes, *, device: str, samples: int, method: str, **post: Any) -> Predict:
    """A loaded model as `evaluate_cases` takes it. `post`: threshold, min_speck_area, max_hole_area.

    Raises CheckpointError when the weights cannot be used and ValueError for a bad device or method.
    """
    predictor = Predictor(weights=weights, device=device)
    options: dict[str, Any] = {"samples": samples, "method": method, "version": VERSION, "keep_maps": True, **post}

    def predict(image: Image, prompts: Mapping[str, str], digest: str) -> Mapping[str, Found]:
        found: Mapping[str, Any] = predictor.predict(image, prompts=prompts, image_digest=digest, **options)
        return found

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
        fields: dict[str, Any] = {"masks": {self._label: mask}, "prompts": {self._label: item.prompt}}
        return Example(image=image, name=item.name, **fields)


def learn(
    items: Sequence[Item],
    *,
    label: str,
    backbone: str,
    steps: int,
    batch: int,
    seed: int,
    device: str,
    checkpoint: Path,
    checkpoint_steps: int,
    on_progress: Callable[[Progress], None],
) -> bytes:
    """Train on items with their own prompts; goes on from `checkpoint`. Raises TrainingError and ItemError."""
    return train(
        Lessons(items, label=label),
        backbone=backbone,
        labels=[label],
        prompts={label: label},
        steps=steps,
        batch=batch,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        checkpoint_steps=checkpoint_steps,
        on_progress=on_progress,
        should_stop=lambda: False,
    )
