"""One optimizer step: examples and their chance in, gradients out."""

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from maskloop_learner.model.backbones import BackboneSpec
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.model.preprocess import normalise
from maskloop_learner.train.augment import Augmentation, augment
from maskloop_learner.train.examples import ExampleSet, TrainingError
from maskloop_learner.train.losses import CONTRAST_WEIGHT, DiceKind, contrast_loss, segmentation_loss

LABELS_PER_STEP = 4
"""With more labels than this each step takes some at random, so that its cost has a bound."""
LARGEST_GRADIENT = 1.0


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """What a step does beside the model's own settings."""

    augmentation: Augmentation
    dice: DiceKind = "image"
    dtype: torch.dtype = torch.float32
    """bfloat16: matrix products under autocast; losses and weights stay float32."""


def take_step(
    model: MedCLIPSeg,
    optimizer: torch.optim.Optimizer,
    learning: list[torch.nn.Parameter],
    data: ExampleSet,
    chosen: list[int],
    tokens: Tensor,
    how: StepConfig,
    generator: Generator,
) -> float:
    """One optimizer step on the chosen examples; the loss before it, 0 where these know of no label.

    `tokens` are the labels' prompts [L, context], or each chosen example's own [B, L, context]. What is not known of
    an example does not count. Raises TrainingError naming the examples whose loss is not finite.
    """
    labels = tokens.shape[-2]
    asked = torch.arange(labels)
    if labels > LABELS_PER_STEP:
        asked = torch.randperm(labels, generator=generator)
    asked = asked[data.known[chosen].any(dim=0)[asked]][:LABELS_PER_STEP]
    known = data.known[chosen][:, asked]
    if not known.any():
        # Nothing to learn from, and a step on a gradient of zeros would still move the weights.
        return 0.0
    telling = known.any(dim=1)
    if not telling.all():
        chosen = [k for k, tells in zip(chosen, telling.tolist(), strict=True) if tells]
        tokens = tokens[telling.to(tokens.device)] if tokens.ndim == 3 else tokens
        known = known[telling]
    images, masks = augment(
        data.images[chosen].float() / 255, data.masks[chosen][:, asked].float() / 255, how.augmentation, generator
    )
    ids = tokens[..., asked.to(tokens.device), :]
    each, contrast = compute_losses(model, images, masks, ids, known, how, generator)
    loss = each.mean() + CONTRAST_WEIGHT * contrast
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    norm = torch.nn.utils.clip_grad_norm_(learning, LARGEST_GRADIENT)
    if not math.isfinite(loss.item()) or not math.isfinite(norm.item()):
        rows = known.flatten().nonzero().flatten()
        bad = {int(rows[i]) // len(asked) for i in (~each.isfinite()).nonzero().flatten()}
        names = sorted({data.names[chosen[i]] for i in (bad or range(len(chosen)))})
        raise TrainingError(
            f"the loss or its gradient is not finite ({loss.item()}, {norm.item()}) on {', '.join(names)}; "
            "look at these images and masks, then train again"
        )
    optimizer.step()
    return loss.item()


def compute_losses(
    model: MedCLIPSeg,
    images: Tensor,
    masks: Tensor,
    ids: Tensor,
    known: Tensor,
    how: StepConfig,
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    """Segmentation loss per known (image, label) row, image by image, and the contrast of these rows.

    `images` [B, 3, S, S] and `masks` [B, L, S, S] in 0..1, `ids` as `MedCLIPSeg.forward` takes them, `known` [B, L]
    bool with at least one row.
    """
    rows, device = masks.shape[0] * masks.shape[1], ids.device
    noise = [
        (torch.randn((rows, *text), generator=generator), torch.randn((rows, *vision), generator=generator))
        for text, vision in model.noise_shapes()
    ]
    inputs = normalise(images, model.preprocessing).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=how.dtype == torch.bfloat16):
        output = model(inputs, ids, [(text.to(device), vision.to(device)) for text, vision in noise])
    logits, patches, text = output.logits, output.patches, output.text
    target = masks.flatten(0, 1).to(device)
    if not known.all():
        kept = known.flatten().to(device)
        logits, patches, text, target = logits[kept], patches[kept], text[kept], target[kept]
    each = segmentation_loss(logits.float(), target, dice=how.dice)
    contrast = contrast_loss(
        patches.float(),
        text.float(),
        temperature=model.spec.temperature,
        kind=model.spec.contrast_text,
    )
    return each, contrast


def learning_rate(spec: BackboneSpec, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine from the first to the last rate."""
    high, low = spec.learning_rates
    warm = max(1, round(spec.warmup * steps))
    if step < warm:
        return high * (step + 1) / warm
    return low + (high - low) * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2


def pick(count: int, *, step: int, batch: int, seed: int) -> list[int]:
    """The examples of a step: successive pieces of an endless row of shuffles of 0..count-1."""
    chosen: list[int] = []
    for place in range(step * batch, (step + 1) * batch):
        epoch, at = divmod(place, count)
        if not chosen or at == 0:
            order = torch.randperm(count, generator=torch.Generator().manual_seed(step_seed(seed, ~epoch)))
        chosen.append(int(order[at]))
    return chosen


def step_seed(seed: int, step: int) -> int:
    """63 bits for one step of one training."""
    return int.from_bytes(hashlib.sha256(f"{seed} {step}".encode()).digest()[:8], "big") >> 1
