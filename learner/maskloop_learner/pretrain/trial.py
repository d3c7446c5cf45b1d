"""How well a model answers prompts on phantoms that no training has seen."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.model.preprocess import normalise, shrink_image
from maskloop_learner.pretrain.phantoms import MAKERS, make_phantom
from maskloop_learner.train.metrics import dice

HELD_OUT = 2**40
"""Seeds from here on are for measuring; trainings use seeds below."""


def predict_mean(model: MedCLIPSeg, image: NDArray[np.uint8], prompts: Sequence[str]) -> Tensor:
    """Probabilities [P, H, W] of an RGB image [H, W, 3] with all chance at its mean: one pass, no samples."""
    square = shrink_image(image, model.spec.image_size)
    noise = [
        (torch.zeros(len(prompts), *text), torch.zeros(len(prompts), *vision)) for text, vision in model.noise_shapes()
    ]
    with torch.inference_mode():
        fed = normalise(square[None].float() / 255, model.spec.preprocessing)
        p = model(fed, model.tokens(prompts), noise).logits.sigmoid()
        return F.interpolate(p[:, None], image.shape[:2], mode="bilinear", align_corners=False)[:, 0]


def measure_phantoms(model: MedCLIPSeg, *, seed: int, count: int) -> dict[str, float]:
    """Modality -> mean Dice over `count` new phantoms of each, one prompt (a finding where there is one) of each.

    Prompts in their usual wording; images that hold nothing that was asked for are left out.
    """
    found: dict[str, float] = {}
    for modality in MAKERS:
        rng = np.random.default_rng([HELD_OUT + seed, *modality.encode()])
        scores: list[float] = []
        while len(scores) < count:
            phantom = make_phantom(rng, modality, wordy=False)
            prompt, mask = phantom.questions[0]
            if mask.any():
                scores.append(dice(predict_mean(model, phantom.image, [prompt])[0].numpy() > 0.5, mask))
        found[modality] = float(np.mean(scores))
    return found
