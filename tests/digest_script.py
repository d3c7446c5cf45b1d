"""Prints the digest of predictions, for tests that compare processes: BACKBONE FROM TO METHOD/SAMPLES ..."""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.checkpoint import save_weights
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.predict.predictor import LabelPrediction, Predictor
from maskloop_learner.predict.sampling import Sampling

PROMPTS = {"White": "white matter in a brain MRI", "Grey": "grey matter in a brain MRI, seen from above"}
SIZES = ((70, 50), (128, 128), (400, 333), (31, 900), (224, 224), (640, 480), (5, 7), (129, 257))


def picture(k: int) -> NDArray[np.uint8]:
    """The k-th image: blobs and noise; sizes differ."""
    height, width = SIZES[k]
    rng = np.random.default_rng(k)
    y, x = np.mgrid[:height, :width]
    blob = np.hypot(y / height - rng.uniform(0.3, 0.7), x / width - rng.uniform(0.3, 0.7)) < 0.25
    pixels: NDArray[np.uint8] = np.clip(
        90 + 80 * blob[..., None] + rng.normal(0, 30, (height, width, 3)), 0, 255
    ).astype(np.uint8)
    return pixels


def make_predictor(backbone: str) -> Predictor:
    """Random weights from one seed."""
    return Predictor(weights=save_weights(MedCLIPSeg(BACKBONES[backbone], seed=6), meta={}), device="cpu")


def digest(found: dict[str, LabelPrediction]) -> str:
    """SHA-256 of every bit of a prediction: masks, scores, aggregates and maps."""
    whole = hashlib.sha256()
    for label, prediction in sorted(found.items()):
        fields = {f.name: getattr(prediction, f.name) for f in dataclasses.fields(prediction)}
        mask, maps = fields.pop("mask"), fields.pop("maps")
        # Python's repr of a float tells every bit.
        whole.update(f"{label} {mask.shape} {json.dumps(fields, sort_keys=True)}".encode())
        whole.update(mask.tobytes())
        for values in (maps.probability, maps.predictive_entropy):
            if values.dtype != np.float32:
                raise TypeError(f"maps must be float32, got {values.dtype}")
            whole.update(values.tobytes())
    return whole.hexdigest()


def ask(predictor: Predictor, k: int, sampling: Sampling) -> str:
    """The digest of the predictions of the k-th image."""
    found = predictor.predict(
        picture(k),
        prompts=PROMPTS,
        method=sampling.method,
        samples=sampling.samples,
        threshold=0.5,
        min_speck_area=4,
        max_hole_area=4,
        temperature=1.3,
        version="v1",
        image_digest=f"image-{k}",
        keep_maps=True,
    )
    return digest(found)


def ask_all(predictor: Predictor, samplings: Iterable[Sampling], order: Iterable[int]) -> dict[str, str]:
    """method/samples/k -> digest."""
    return {f"{s.method}/{s.samples}/{k}": ask(predictor, k, s) for s in samplings for k in order}


def main(backbone: str, first: str, end: str, *names: str) -> None:
    """Print the digests of images first..end-1 as JSON."""
    parts = [name.split("/") for name in names]
    samplings = [Sampling(method, int(samples)) for method, samples in parts]  # type: ignore[arg-type]
    print(json.dumps(ask_all(make_predictor(backbone), samplings, range(int(first), int(end)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
