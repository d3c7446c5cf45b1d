"""Masks and their uncertainties for one image at a time."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from maskloop_learner.model.bases import Bases
from maskloop_learner.model.checkpoint import load_weights
from maskloop_learner.model.device import find_device
from maskloop_learner.model.precision import Precision, choose_dtype
from maskloop_learner.model.preprocess import prepare_image
from maskloop_learner.model.shared import Shelf, prepared, tensors_of
from maskloop_learner.pool.masks import clean_mask
from maskloop_learner.predict.aggregate import MEASURES, aggregate
from maskloop_learner.predict.noise import digest_text
from maskloop_learner.predict.sampling import Method, Sampling, draw_chunks
from maskloop_learner.predict.scores import Scores, StreamingScores

PROMPTS_KEPT = 64


@dataclass(frozen=True)
class PredictionMaps:
    """Pixel by pixel, at the image's size [H, W], float32 in 0..1."""

    probability: NDArray[np.float32]
    predictive_entropy: NDArray[np.float32]


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
    aggregates: dict[str, dict[str, float]] = field(default_factory=dict)
    """Measure -> aggregation -> score, at the model's resolution (see `aggregate`)."""
    maps: PredictionMaps | None = field(default=None, compare=False)
    entropy: NDArray[np.float32] | None = field(default=None, compare=False)
    """[h, w] predictive entropy of every pixel, 0..1, as coarse as the model sees the image; None unless kept."""


class Predictor:
    """A model, loaded and ready. Not for use from several threads at once."""

    def __init__(
        self,
        *,
        weights: bytes,
        device: str,
        bases: Bases | None = None,
        precision: Precision = "fp32",
        shelf: Shelf | None = None,
    ) -> None:
        """`shelf`, of the same device, holds frozen towers for several predictors; the predictions are the same.

        Raises CheckpointError when the weights cannot be used, BackboneError when their frozen towers are not in
        `bases` or the shelf's, and ValueError for a bad device."""
        self.device = find_device(device)
        self.model = load_weights(weights, device=self.device, bases=bases, shelf=shelf)
        self.dtype = choose_dtype(precision, self.device)
        self.model.use_precision(self.dtype)
        self._read: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()

    def tensors(self) -> Iterator[Tensor]:
        """All that is held for this predictor alone, or with others: not the towers on a shelf."""
        yield from tensors_of(self.model)
        if self.model.over is None:
            yield from prepared(*self.model.towers())
        for ids, text in self._read.values():
            yield from (ids, text)

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
        method: Method = "monte-carlo",
        temperature: float = 1.0,
        keep_maps: bool = False,
        keep_entropy: bool = False,
    ) -> dict[str, LabelPrediction]:
        """One prediction per label of `prompts` (label -> prompt) for an RGB image [H, W, 3].

        Logits are divided by `temperature`. On one machine's CPU the result depends on the arguments alone, to the
        bit, whatever ran before or beside it, and is the same on one thread and on two; more threads may share rows
        so that the last bit of a larger backbone differs. `keep_maps` keeps the pixels' values at the image's size,
        `keep_entropy` the entropies as coarse as the model sees it.
        Raises ValueError for an image that is not RGB uint8 and for arguments out of range.
        """
        sampling = Sampling(method, samples)
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, got {threshold!r}")
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature!r}")
        found: dict[str, LabelPrediction] = {}
        with torch.inference_mode():
            vision = self._look(image)
            for label, prompt in prompts.items():
                scores = StreamingScores()
                for logits in self._sample(vision, prompt, sampling, version, image_digest):
                    scores.add((logits / temperature).sigmoid())
                found[label] = assemble(
                    scores.result(),
                    sampling,
                    size=(image.shape[0], image.shape[1]),
                    threshold=threshold,
                    min_speck_area=min_speck_area,
                    max_hole_area=max_hole_area,
                    keep_maps=keep_maps,
                    keep_entropy=keep_entropy,
                )
        return found

    def sample_logits(
        self, image: NDArray[np.uint8], *, prompt: str, sampling: Sampling, version: str, image_digest: str
    ) -> NDArray[np.float32]:
        """The logits themselves, [samples, size, size] at the model's resolution; for calibration."""
        with torch.inference_mode():
            chunks = list(self._sample(self._look(image), prompt, sampling, version, image_digest))
        return torch.cat(chunks).cpu().numpy()

    def _look(self, image: NDArray[np.uint8]) -> Tensor:
        # On the CPU whatever the device, so that the towers are fed the same everywhere.
        square = prepare_image(image, self.model.spec.image_size, self.model.preprocessing)
        return self.model.look(square.to(self.device))

    def _sample(
        self, vision: Tensor, prompt: str, sampling: Sampling, version: str, image_digest: str
    ) -> Iterator[Tensor]:
        if prompt not in self._read:
            ids = self.model.tokens([prompt])
            self._read[prompt] = ids, self.model.read(ids)
            while len(self._read) > PROMPTS_KEPT:
                self._read.popitem(last=False)
        self._read.move_to_end(prompt)
        ids, text = self._read[prompt]
        prefix = self.model.prefix(vision, text, ids)
        chunks = draw_chunks(
            sampling,
            shapes=self.model.noise_shapes(),
            chunk=self.model.spec.chunk,
            device=self.device,
            version=version,
            image_digest=image_digest,
            prompt_digest=digest_text(prompt),
        )
        for noise in chunks:
            yield self.model.sample(prefix, noise).logits.float()


def assemble(
    scores: Scores,
    sampling: Sampling,
    *,
    size: tuple[int, int],
    threshold: float,
    min_speck_area: int,
    max_hole_area: int,
    keep_maps: bool,
    keep_entropy: bool = False,
) -> LabelPrediction:
    """A label's prediction out of its maps at the model's resolution, for an image of `size` (H, W)."""
    # Sums in numpy: torch splits a sum by the number of threads, and the last bit would follow it.
    maps = {name: getattr(scores, name).cpu().numpy() for name in MEASURES}
    means = {name: float(values.mean(dtype=np.float64)) for name, values in maps.items()}
    inside = scores.probability.cpu().numpy() > threshold
    probability = grow(scores.probability, size)
    mask = clean_mask(probability > threshold, min_speck_area=min_speck_area, max_hole_area=max_hole_area)
    return LabelPrediction(
        mask=mask,
        probability=float(probability[mask].mean(dtype=np.float64)) if mask.any() else 0.0,
        method=sampling.method,
        samples=sampling.samples,
        aggregates={name: aggregate(values, inside) for name, values in maps.items()},
        maps=PredictionMaps(probability, grow(scores.predictive_entropy, size)) if keep_maps else None,
        entropy=maps["predictive_entropy"] if keep_entropy else None,
        **means,
    )


def grow(x: Tensor, size: tuple[int, int]) -> NDArray[np.float32]:
    """[h, w] -> [H, W], bilinear."""
    return F.interpolate(x[None, None], size, mode="bilinear", align_corners=False)[0, 0].cpu().numpy()
