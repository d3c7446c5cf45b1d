"""Labelled images as training takes them in."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskloop_learner.model.preprocess import shrink_image, shrink_mask


class TrainingError(RuntimeError):
    """A training that cannot go on; the message names the cause and what to do."""


class TrainingCancelled(Exception):
    """`should_stop` said so; the checkpoint holds what was learnt so far."""


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
    known: frozenset[str] | None = None
    """Labels that were looked for on this image; None: all. Of others nothing is known, nor that they are absent."""
    lesser: Mapping[str, Sequence[str]] | None = None
    """Label -> prompts that say less, for prompt dropout (see `lesser_prompts`)."""
    group: str | None = None
    """Patient, case or video: what is held out for early stopping never shares one with what is learnt. None: alone."""

    def knows(self, label: str) -> bool:
        """Whether the label was looked for on this image."""
        return self.known is None or label in self.known


@dataclass(frozen=True)
class ExampleSet:
    """Examples at the model's size, in memory: about 50 kB and 16 kB per label each at 128 pixels."""

    names: list[str]
    images: Tensor
    """[N, 3, S, S] uint8"""
    masks: Tensor
    """[N, L, S, S] uint8, 255 inside, in the order of the labels."""
    known: Tensor
    """[N, L] bool: whether the label was looked for on the image; where not, the mask is empty and means nothing."""
    prompts: list[Mapping[str, str]]
    """Of each example, label -> prompt where it has one of its own."""
    lesser: list[Mapping[str, Sequence[str]]]
    """Of each example, label -> prompts that say less."""
    digest: str = field(repr=False)
    """SHA-256 of all of it."""
    groups: list[str] = field(default_factory=list)
    """Of each example, its group, or what its pixels alone say."""


def gather_examples(
    examples: Sequence[Example],
    *,
    labels: Sequence[str],
    size: int,
    antialias: bool = True,
    tick: Callable[[], None] = lambda: None,
) -> ExampleSet:
    """Shrink all examples to `size`, one after the other: of a sequence that reads them when they are asked for, one is
    in memory at a time. `tick` is called before each and may raise.

    Raises TrainingError naming the example that cannot be used.
    """
    if not labels:
        raise TrainingError("there is nothing to learn: name at least one label")
    if not len(examples):
        raise TrainingError("there are no labelled images to train on; label at least one")
    count = len(examples)
    images = torch.empty((count, 3, size, size), dtype=torch.uint8)
    masks = torch.zeros((count, len(labels), size, size), dtype=torch.uint8)
    names, groups, known = [], [], []
    prompts: list[Mapping[str, str]] = []
    lesser: list[Mapping[str, Sequence[str]]] = []
    digest = hashlib.sha256()
    for k in range(count):
        tick()
        example = examples[k]
        check_example(example)
        try:
            images[k] = shrink_image(example.image, size, antialias=antialias)
        except ValueError as error:
            raise TrainingError(f"{example.name}: {error}") from error
        for at, label in enumerate(labels):
            if label in example.masks and example.knows(label):
                masks[k, at] = shrink_mask(example.masks[label], size)
        pixels = images[k].numpy().tobytes()
        known.append([example.knows(x) for x in labels])
        prompts.append(dict(example.prompts or {}))
        lesser.append({label: tuple(texts) for label, texts in (example.lesser or {}).items()})
        names.append(example.name)
        groups.append(example.group or hashlib.sha256(pixels).hexdigest())
        digest.update(pixels)
        digest.update(masks[k].numpy().tobytes())
    if not any(map(any, known)):
        raise TrainingError(
            f"none of the labels {', '.join(map(repr, labels))} was looked for on any of the {len(names)} images; "
            "label one of them again"
        )
    digest.update(repr(known).encode())
    looked = torch.tensor(known, dtype=torch.bool)
    return ExampleSet(names, images, masks, looked, prompts, lesser, digest.hexdigest(), groups)


def check_example(example: Example) -> None:
    """Raise TrainingError when a mask is not of its image's size."""
    for label, mask in example.masks.items():
        if mask.shape != example.image.shape[:2]:
            raise TrainingError(
                f"{example.name}: the mask of {label!r} has size {mask.shape}, the image "
                f"{example.image.shape[:2]}; label the image again"
            )
