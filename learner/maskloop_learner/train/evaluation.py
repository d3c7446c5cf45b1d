"""How good masks are against the truth."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from maskloop_learner.predict.predictor import Predictor
from maskloop_learner.train.examples import Example
from maskloop_learner.train.metrics import dice
from maskloop_learner.train.prompts import validation_prompts


def measure(
    predictor: Predictor,
    examples: Sequence[Example],
    prompts: Mapping[str, str],
    *,
    samples: int,
    threshold: float,
    min_speck_area: int,
    max_hole_area: int,
    tick: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> dict[str, list[float]]:
    """Dice per label, of every example that knows the label, in the examples' order; without a mask it is absent.

    An example's own prompt goes before that in `prompts`, unless it tells where the finding is. The noise depends on
    the images alone, so two models are compared under the same chance. `tick` is called with what
    is done, the images done and all of them.
    """
    found: dict[str, list[float]] = {label: [] for label in prompts}
    for done, example in enumerate(examples):
        tick("validation", done, len(examples))
        predictions = predictor.predict(
            example.image,
            prompts=validation_prompts(example, prompts),
            samples=samples,
            threshold=threshold,
            min_speck_area=min_speck_area,
            max_hole_area=max_hole_area,
            version="evaluation",
            image_digest=hashlib.sha256(example.image.tobytes()).hexdigest(),
        )
        empty = np.zeros(example.image.shape[:2], dtype=bool)
        for label, prediction in predictions.items():
            found[label].append(dice(prediction.mask, example.masks.get(label, empty)))
    return found


def evaluate(
    predictor: Predictor,
    examples: Sequence[Example],
    prompts: Mapping[str, str],
    *,
    samples: int,
    threshold: float,
    min_speck_area: int,
    max_hole_area: int,
) -> dict[str, float]:
    """Mean Dice per label, 0..1 (see `measure`). Raises ValueError without examples, or without any of a label."""
    if not examples:
        raise ValueError("there are no examples to evaluate on")
    for label in prompts:
        if not any(example.knows(label) for example in examples):
            raise ValueError(f"none of the {len(examples)} examples was looked through for {label!r}; leave it out")
    found = measure(
        predictor,
        examples,
        prompts,
        samples=samples,
        threshold=threshold,
        min_speck_area=min_speck_area,
        max_hole_area=max_hole_area,
    )
    return {label: float(np.mean(each)) for label, each in found.items()}
