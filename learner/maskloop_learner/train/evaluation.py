"""How good masks are against the truth."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from maskloop_learner.predict.predictor import Predictor
from maskloop_learner.train.examples import Example
from maskloop_learner.train.metrics import dice


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
    """Dice of every example, per label and in the examples' order; a label without a mask is absent.

    The noise depends on the images alone, so two models are compared under the same chance. `tick` is called with
    what is done, the images done and all of them.
    """
    found: dict[str, list[float]] = {label: [] for label in prompts}
    for done, example in enumerate(examples):
        tick("validation", done, len(examples))
        predictions = predictor.predict(
            example.image,
            prompts=prompts,
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
    """Mean Dice per label, 0..1 (see `measure`). Raises ValueError without examples."""
    if not examples:
        raise ValueError("there are no examples to evaluate on")
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
