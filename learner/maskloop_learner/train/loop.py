"""Training: labelled images in, weights out; may be killed at any moment and goes on where it was."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from maskloop_learner.model.backbones import BackboneSpec, find_backbone
from maskloop_learner.model.checkpoint import save_weights
from maskloop_learner.model.device import find_device
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.model.preprocess import normalise
from maskloop_learner.train.augment import Augmentation, augment
from maskloop_learner.train.examples import Example, ExampleSet, TrainingError, gather_examples
from maskloop_learner.train.losses import CONTRAST_WEIGHT, contrast_loss, segmentation_loss
from maskloop_learner.train.resume import read_state, write_state

__all__ = ["Example", "Progress", "TrainingCancelled", "TrainingError", "train"]

LABELS_PER_STEP = 4
"""With more labels than this each step takes some at random, so that its cost has a bound."""
LARGEST_GRADIENT = 1.0


class TrainingCancelled(Exception):
    """`should_stop` said so; the checkpoint holds what was learnt so far."""


@dataclass(frozen=True)
class Progress:
    """Where a training is."""

    step: int
    """Steps done, 1..steps."""
    steps: int
    loss: float
    eta: float
    """Seconds to go."""


def train(
    examples: Sequence[Example],
    *,
    backbone: str,
    labels: Sequence[str],
    prompts: Mapping[str, str],
    steps: int,
    batch: int,
    seed: int,
    device: str,
    checkpoint: Path,
    checkpoint_steps: int,
    on_progress: Callable[[Progress], None],
    should_stop: Callable[[], bool],
    augmentation: Augmentation | None = None,
) -> bytes:
    """Train from the backbone's start and return the weights (see `load_weights`).

    Goes on from `checkpoint` if that was written by the same training: on a CPU the result is then that of
    a training never interrupted. Raises TrainingError naming the cause, TrainingCancelled within a step of
    `should_stop` and ValueError for an unknown backbone or device.
    """
    spec = find_backbone(backbone)
    data = gather_examples(examples, labels=labels, size=spec.image_size)
    target = find_device(device)
    model = MedCLIPSeg(spec, seed=seed).to(target).train()
    tokens = distinct_tokens(model, labels, prompts)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=spec.learning_rates[0])
    how = augmentation or Augmentation()
    run = describe_run(spec, data, labels, prompts, steps, batch, seed, how)

    done = 0
    if (state := read_state(checkpoint, run=run)) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = int(state["step"])

    def save(step: int) -> None:
        write_state(
            checkpoint,
            {"run": run, "step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()},
        )

    started, first = time.monotonic(), done
    for step in range(done, steps):
        if should_stop():
            if step > done:
                save(step)
            raise TrainingCancelled(f"cancelled after {step} of {steps} steps")
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(spec, step, steps)
        # All chance of a step comes from its number: a resumed training needs no generator's state.
        generator = torch.Generator().manual_seed(step_seed(seed, step))
        chosen = pick(len(data.names), step=step, batch=batch, seed=seed)
        loss = take_step(model, optimizer, learning, data, chosen, tokens, how, generator)
        if (step + 1) % checkpoint_steps == 0 or step + 1 == steps:
            save(step + 1)
        pace = (time.monotonic() - started) / (step + 1 - first)
        on_progress(Progress(step + 1, steps, loss, pace * (steps - step - 1)))
    meta = {"labels": list(labels), "prompts": {label: prompts[label] for label in labels}}
    return save_weights(model, meta=meta | {"steps": steps, "seed": seed, "examples": len(data.names)})


def take_step(
    model: MedCLIPSeg,
    optimizer: torch.optim.Optimizer,
    learning: list[torch.nn.Parameter],
    data: ExampleSet,
    chosen: list[int],
    tokens: Tensor,
    how: Augmentation,
    generator: Generator,
) -> float:
    """One optimizer step on the chosen examples; the loss before it."""
    device = tokens.device
    asked = torch.arange(len(tokens))
    if len(tokens) > LABELS_PER_STEP:
        asked = torch.randperm(len(tokens), generator=generator)[:LABELS_PER_STEP]
    images, masks = augment(
        data.images[chosen].float() / 255, data.masks[chosen][:, asked].float() / 255, how, generator
    )
    rows = len(chosen) * len(asked)
    noise = [
        tuple(torch.randn((rows, *shape), generator=generator).to(device) for shape in pair)
        for pair in model.noise_shapes()
    ]
    output = model(normalise(images, model.spec.contrast).to(device), tokens[asked.to(device)], noise)
    each = segmentation_loss(output.logits, masks.flatten(0, 1).to(device))
    loss = each.mean() + CONTRAST_WEIGHT * contrast_loss(
        output.patches, output.text, temperature=model.spec.temperature
    )
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    norm = torch.nn.utils.clip_grad_norm_(learning, LARGEST_GRADIENT)
    if not math.isfinite(loss.item()) or not math.isfinite(norm.item()):
        bad = {int(i) // len(asked) for i in (~each.isfinite()).nonzero()}
        names = sorted({data.names[chosen[i]] for i in (bad or range(len(chosen)))})
        raise TrainingError(
            f"the loss or its gradient is not finite ({loss.item()}, {norm.item()}) on {', '.join(names)}; "
            "look at these images and masks, then train again"
        )
    optimizer.step()
    return loss.item()


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


def distinct_tokens(model: MedCLIPSeg, labels: Sequence[str], prompts: Mapping[str, str]) -> Tensor:
    """Tokens of the labels' prompts [L, context]. Raises TrainingError when two labels look the same."""
    if missing := [label for label in labels if not prompts.get(label, "").strip()]:
        raise TrainingError(f"label {missing[0]!r} has no prompt; give each label a few words")
    tokens = model.tokens([prompts[label] for label in labels])
    seen: dict[bytes, str] = {}
    for label, row in zip(labels, tokens.cpu().numpy(), strict=True):
        twin = seen.setdefault(row.tobytes(), label)
        if twin != label:
            raise TrainingError(
                f"labels {twin!r} and {label!r} have the same prompt within the first {len(row)} tokens: "
                f"{prompts[label]!r}; the model tells labels apart by their prompts alone, so change one"
            )
    return tokens


def describe_run(
    spec: BackboneSpec,
    data: ExampleSet,
    labels: Sequence[str],
    prompts: Mapping[str, str],
    steps: int,
    batch: int,
    seed: int,
    how: Augmentation,
) -> str:
    """A digest of all that determines a training's result."""
    what = [repr(spec), data.digest, list(labels), dict(prompts), steps, batch, seed, repr(how)]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
