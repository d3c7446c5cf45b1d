"""Labelled images as training takes them in."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskloop_learner.model.preprocess import shrink_image, shrink_mask


class TrainingError(RuntimeError):
    """A training that cannot go on; the message names the cause and what to do."""


@dataclass(frozen=True)
class Example:
    """One labelled image. A label without a mask is absent from the image."""

    image: NDArray[np.uint8]
    """RGB [H, W, 3]."""
    masks: dict[str, NDArray[np.bool_]]
    """Label -> [H, W]."""
    name: str
    """For messages."""
    prompts: Mapping[str, str] | None = None
    """Label -> prompt of this image alone, where it differs from the label's."""


@dataclass(frozen=True)
class ExampleSet:
    """Examples at the model's size, in memory: about 50 kB and 16 kB per label each at 128 pixels."""

    names: list[str]
    images: Tensor
    """[N, 3, S, S] uint8"""
    masks: Tensor
    """[N, L, S, S] uint8, 255 inside, in the order of the labels."""
    digest: str = field(repr=False)
    """SHA-256 of all of it."""


def gather_examples(
    examples: Sequence[Example], *, labels: Sequence[str], size: int, antialias: bool = True
) -> ExampleSet:
    """Shrink all examples to `size`. Raises TrainingError naming the example that cannot be used."""
    if not labels:
        raise TrainingError("there is nothing to learn: name at least one label")
    names, images, masks = [], [], []
    digest = hashlib.sha256()
    for example in examples:
        for label, mask in example.masks.items():
            if mask.shape != example.image.shape[:2]:
                raise TrainingError(
                    f"{example.name}: the mask of {label!r} has size {mask.shape}, the image "
                    f"{example.image.shape[:2]}; label the image again"
                )
        try:
            image = shrink_image(example.image, size, antialias=antialias)
        except ValueError as error:
            raise TrainingError(f"{example.name}: {error}") from error
        empty = torch.zeros((size, size), dtype=torch.uint8)
        layers = [shrink_mask(example.masks[x], size) if x in example.masks else empty for x in labels]
        names.append(example.name)
        images.append(image)
        masks.append(torch.stack(layers))
        digest.update(image.numpy().tobytes())
        digest.update(masks[-1].numpy().tobytes())
    if not names:
        raise TrainingError("there are no labelled images to train on; label at least one")
    return ExampleSet(names, torch.stack(images), torch.stack(masks), digest.hexdigest())
