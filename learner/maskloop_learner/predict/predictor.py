"""Masks and their uncertainties for one image at a time."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from maskloop_learner.model.checkpoint import load_weights
from maskloop_learner.model.device import find_device
from maskloop_learner.model.preprocess import normalise, shrink_image
from maskloop_learner.pool.masks import clean_mask
from maskloop_learner.predict.noise import digest_text, draw_noise, sample_seed
from maskloop_learner.predict.scores import Scores, StreamingScores

METHOD = "monte-carlo"
# Fixed, and one image and label per pass: matrix products of another shape round otherwise.
CHUNK = 10


@dataclass(frozen=True)
class LabelPrediction:
    """What the model says of one label. Uncertainties are means over the whole image."""

    mask: NDArray[np.bool_]
    """[H, W] of the image."""
    probability: float
    """Mean probability inside the mask, 0..1; 0 when it is empty."""
    predictive_entropy: float
    expected_entropy: float
    mutual_information: float
    variance: float
    method: str
    samples: int


class Predictor:
    """A model, loaded and ready. Not for use from several threads at once."""

    def __init__(self, *, weights: bytes, device: str) -> None:
        """Raises CheckpointError when the weights cannot be used and ValueError for a bad device."""
        self.device = find_device(device)
        self.model = load_weights(weights, device=self.device)

    def predict(
        self,
        image: NDArray[np.uint8],
        *,
        prompts: Mapping[str, str],
        samples: int,
        threshold: float,
        min_speck_area: int,
        max_hole_area: int,
        version: str,
        image_digest: str,
    ) -> dict[str, LabelPrediction]:
        """One prediction per label of `prompts` (label -> prompt) for an RGB image [H, W, 3].

        On one machine the result depends on the arguments alone, to the bit, whatever ran before.
        Raises ValueError for an image that is not RGB uint8 and for samples or threshold out of range.
        """
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples!r}")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, got {threshold!r}")
        found: dict[str, LabelPrediction] = {}
        with torch.inference_mode():
            vision = self._look(image)
            for label, prompt in prompts.items():
                seeds = [
                    sample_seed(version=version, image_digest=image_digest, prompt_digest=digest_text(prompt), sample=k)
                    for k in range(samples)
                ]
                scores = self._score(vision, prompt, seeds)
                grown = F.interpolate(
                    scores.probability[None, None], image.shape[:2], mode="bilinear", align_corners=False
                )[0, 0]
                probability = grown.cpu().numpy()
                mask = clean_mask(probability > threshold, min_speck_area=min_speck_area, max_hole_area=max_hole_area)
                found[label] = LabelPrediction(
                    mask=mask,
                    probability=float(probability[mask].mean(dtype=np.float64)) if mask.any() else 0.0,
                    predictive_entropy=mean(scores.predictive_entropy),
                    expected_entropy=mean(scores.expected_entropy),
                    mutual_information=mean(scores.mutual_information),
                    variance=mean(scores.variance),
                    method=METHOD,
                    samples=samples,
                )
        return found

    def _look(self, image: NDArray[np.uint8]) -> Tensor:
        square = shrink_image(image, self.model.spec.image_size).to(self.device)
        return self.model.look(normalise(square[None].float() / 255, self.model.spec.contrast))

    def _score(self, vision: Tensor, prompt: str, seeds: list[int]) -> Scores:
        tokens = self.model.tokens([prompt])
        prefix = self.model.prefix(vision, self.model.read(tokens), tokens)
        scores = StreamingScores()
        for start in range(0, len(seeds), CHUNK):
            noise = draw_noise(self.model.noise_shapes(), seeds[start : start + CHUNK], self.device)
            scores.add(self.model.sample(prefix, noise).logits.float().sigmoid())
        return scores.result()


def mean(x: Tensor) -> float:
    """Mean of a map, summed in float64."""
    return float(x.double().mean())
