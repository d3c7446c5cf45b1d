"""What the predictor and examples of this checkout lack yet: maps, aggregates, methods, prompts of single examples.

Everything is done by the real model; nothing is replaced where the product has it already.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from inspect import signature
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from maskloop_learner.evaluate import model as wired
from maskloop_learner.predict.aggregate import aggregate
from maskloop_learner.predict.noise import digest_text, sample_seed
from maskloop_learner.predict.predictor import Predictor
from maskloop_learner.train.examples import Example


@dataclass(frozen=True)
class PromptedExample(Example):
    """An example that may have its own prompts; this checkout's training does not look at them."""

    prompts: Mapping[str, str] | None = None


class MappingPredictor(Predictor):
    """The present predictor, which also tells maps and aggregates."""

    def predict(self, image: NDArray[np.uint8], *, keep_maps: bool = False, method: str = "", **asked: Any) -> Any:
        """As the present one, with more in each prediction."""
        found: dict[str, Any] = {}
        for label, plain in super().predict(image, **asked).items():
            prompt = asked["prompts"][label]
            seeds = [
                sample_seed(
                    version=asked["version"],
                    image_digest=asked["image_digest"],
                    prompt_digest=digest_text(prompt),
                    sample=k,
                )
                for k in range(asked["samples"])
            ]
            with torch.inference_mode():
                scores = self._score(self._look(image), prompt, seeds)
                grown = {
                    name: F.interpolate(getattr(scores, name)[None, None], image.shape[:2], mode="bilinear")[0, 0]
                    for name in ("probability", "predictive_entropy")
                }
            maps = {name: value.clamp(0, 1).numpy() for name, value in grown.items()}
            aggregates = {"predictive_entropy": aggregate(maps["predictive_entropy"], plain.mask)}
            more = {"aggregates": aggregates, "maps": SimpleNamespace(**maps) if keep_maps else None}
            found[label] = SimpleNamespace(**{f.name: getattr(plain, f.name) for f in fields(plain)}, **more)
        return found


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put both in place unless the checkout has them."""
    if "keep_maps" not in signature(Predictor.predict).parameters:
        monkeypatch.setattr(wired, "Predictor", MappingPredictor)
    if "prompts" not in {f.name for f in fields(Example)}:
        monkeypatch.setattr(wired, "Example", PromptedExample)
