"""One step's images, with all the chance of the step drawn: its result no longer depends on how they are divided."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.model.preprocess import normalise
from maskloop_learner.train.augment import Augmentation, augment
from maskloop_learner.train.examples import ExampleSet
from maskloop_learner.train.losses import DiceKind, segmentation_loss

LABELS_PER_STEP = 4
"""With more labels than this each step takes some at random, so that its cost has a bound."""


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """What a step does beside the model's own settings."""

    augmentation: Augmentation
    dice: DiceKind = "image"
    dtype: torch.dtype = torch.float32
    """bfloat16: matrix products under autocast; losses and weights stay float32."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images of a step on the CPU, their tokens on the model's device."""

    chosen: list[int]
    """[B] numbers of the examples."""
    images: Tensor
    """[B, 3, S, S] in 0..1, augmented."""
    masks: Tensor
    """[B, L, S, S] in 0..1, augmented alike."""
    ids: Tensor
    """[L, context] for all images or [B, L, context] for each its own."""
    known: Tensor
    """[B, L] bool, at least one in each row."""
    noise: list[tuple[Tensor, Tensor]]
    """Per adapter, of the rows (image 0 with its L labels, then image 1, ...)."""

    def part(self, images: Sequence[int]) -> "Batch":
        """Some of the images, as they are in the whole."""
        if list(images) == list(range(len(self.chosen))):
            return self
        labels = self.masks.shape[1]
        at = torch.tensor(list(images), dtype=torch.int64)
        rows = (at[:, None] * labels + torch.arange(labels)).flatten()
        return Batch(
            chosen=[self.chosen[k] for k in images],
            images=self.images[at],
            masks=self.masks[at],
            ids=self.ids[at.to(self.ids.device)] if self.ids.ndim == 3 else self.ids,
            known=self.known[at],
            noise=[(text[rows], vision[rows]) for text, vision in self.noise],
        )

    def rows(self, images: Sequence[int]) -> Tensor:
        """Where the known rows of some images are among those of all: int64."""
        place = torch.cumsum(self.known.flatten(), dim=0).view_as(self.known) - 1
        at = torch.tensor(list(images), dtype=torch.int64)
        return place[at][self.known[at]]


def draw_batch(
    model: MedCLIPSeg, data: ExampleSet, chosen: list[int], tokens: Tensor, how: StepConfig, generator: Generator
) -> Batch | None:
    """Augment the chosen examples and draw their noise; None where these know of no label.

    `tokens` are the labels' prompts [L, context], or each chosen example's own [B, L, context]. What is not known of
    an example does not count.
    """
    labels = tokens.shape[-2]
    asked = torch.arange(labels)
    if labels > LABELS_PER_STEP:
        asked = torch.randperm(labels, generator=generator)
    asked = asked[data.known[chosen].any(dim=0)[asked]][:LABELS_PER_STEP]
    known = data.known[chosen][:, asked]
    if not known.any():
        return None
    telling = known.any(dim=1)
    if not telling.all():
        chosen = [k for k, tells in zip(chosen, telling.tolist(), strict=True) if tells]
        tokens = tokens[telling.to(tokens.device)] if tokens.ndim == 3 else tokens
        known = known[telling]
    images, masks = augment(
        data.images[chosen].float() / 255, data.masks[chosen][:, asked].float() / 255, how.augmentation, generator
    )
    rows = len(chosen) * len(asked)
    noise = [
        (torch.randn((rows, *text), generator=generator), torch.randn((rows, *vision), generator=generator))
        for text, vision in model.noise_shapes()
    ]
    ids = tokens[..., asked.to(tokens.device), :]
    return Batch(chosen=chosen, images=images, masks=masks, ids=ids, known=known, noise=noise)


class Answer(NamedTuple):
    """What the losses of a batch are made of, one row per known (image, label), on the model's device."""

    each: Tensor
    """[R] segmentation loss."""
    patches: Tensor
    """[R, D] mean patch."""
    text: Tensor
    """[R, D]"""


def ask(model: MedCLIPSeg, batch: Batch, how: StepConfig) -> Answer:
    """One pass over a batch."""
    device = batch.ids.device
    inputs = normalise(batch.images, model.preprocessing).to(device)
    noise = [(text.to(device), vision.to(device)) for text, vision in batch.noise]
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=how.dtype == torch.bfloat16):
        output = model(inputs, batch.ids, noise)
    logits, patches, text = output.logits, output.patches, output.text
    target = batch.masks.flatten(0, 1).to(device)
    if not batch.known.all():
        kept = batch.known.flatten().to(device)
        logits, patches, text, target = logits[kept], patches[kept], text[kept], target[kept]
    each = segmentation_loss(logits.float(), target, dice=how.dice)
    return Answer(each, patches.float().mean(dim=1), text.float())
