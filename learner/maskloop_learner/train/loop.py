"""Training: labelled images in, weights out; may be killed at any moment and goes on where it was."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from maskloop_learner.model.backbones import find_backbone
from maskloop_learner.model.bases import Bases
from maskloop_learner.model.checkpoint import save_weights, stored_parameters
from maskloop_learner.model.device import find_device
from maskloop_learner.model.precision import Precision, choose_dtype
from maskloop_learner.model.start import Start, build_start
from maskloop_learner.train.augment import Augmentation
from maskloop_learner.train.examples import Example, TrainingError, gather_examples
from maskloop_learner.train.losses import DiceKind
from maskloop_learner.train.prompts import read_prompts
from maskloop_learner.train.resume import read_state, write_state
from maskloop_learner.train.steps import StepConfig, learning_rate, pick, step_seed, take_step

__all__ = ["Example", "Progress", "TrainingCancelled", "TrainingError", "train"]


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
    bases: Bases | None = None,
    start: Start = "pretrained",
    learning_rates: tuple[float, float] | None = None,
    dice: DiceKind = "image",
    official_preprocessing: bool = False,
    precision: Precision = "fp32",
    recompute: bool = False,
    prompt_dropout: float = 0.0,
    negatives: Mapping[str, str] | None = None,
) -> bytes:
    """Train from the backbone's start and return the weights (see `load_weights`).

    `learning_rates` (first, last) are the backbone's when left out. `dice="row"` and `official_preprocessing` are as
    published, for reproduction. `recompute` computes activations twice to need less memory. `prompt_dropout` (0..1) is
    how often an example is asked by one of its prompts that say less; `negatives` are prompts, by label, for examples
    that are known to lack it.

    Goes on from `checkpoint` if that was written by the same training: on a CPU the result is then that of
    a training never interrupted. Raises TrainingError naming the cause, TrainingCancelled within a step of
    `should_stop`, BackboneError when frozen towers are missing and ValueError for an unknown backbone or device.
    """
    spec = find_backbone(backbone)
    if learning_rates is not None:
        spec = replace(spec, learning_rates=learning_rates)
    data = gather_examples(examples, labels=labels, size=spec.image_size, antialias=not official_preprocessing)
    target = find_device(device)
    model = build_start(spec, seed=seed, start=start, bases=bases).to(target).train()
    model.preprocessing = "official" if official_preprocessing else spec.preprocessing
    model.checkpointing = recompute
    table = read_prompts(model, data, labels, prompts, dropout=prompt_dropout, negatives=negatives)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=spec.learning_rates[0])
    how = StepConfig(augmentation=augmentation or Augmentation(), dice=dice, dtype=choose_dtype(precision, target))
    run = digest_of(
        [repr(spec), model.base, start, model.preprocessing, data.digest, list(labels), dict(prompts)],
        [data.prompts, data.lesser, prompt_dropout, dict(negatives or {})],
        [steps, batch, seed, repr(how)],
    )

    done = 0
    stored = stored_parameters(model)
    if (state := read_state(checkpoint, run=run)) is not None:
        with torch.no_grad():
            for name, parameter in stored.items():
                parameter.copy_(state["model"][name])
        optimizer.load_state_dict(state["optimizer"])
        done = int(state["step"])

    def save(step: int) -> None:
        weights = {name: p.detach() for name, p in stored.items()}
        write_state(checkpoint, {"run": run, "step": step, "model": weights, "optimizer": optimizer.state_dict()})

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
        tokens = table.choose(data, chosen, seed=seed, step=step)
        loss = take_step(model, optimizer, learning, data, chosen, tokens, how, generator)
        if (step + 1) % checkpoint_steps == 0 or step + 1 == steps:
            save(step + 1)
        pace = (time.monotonic() - started) / (step + 1 - first)
        on_progress(Progress(step + 1, steps, loss, pace * (steps - step - 1)))
    meta = {"labels": list(labels), "prompts": {label: prompts[label] for label in labels}}
    return save_weights(model, meta=meta | {"steps": steps, "seed": seed, "examples": len(data.names)})


def digest_of(*what: object) -> str:
    """A digest of all that determines a training's result."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
