"""One optimizer step: examples and their chance in, changed weights out."""

import logging
import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.train.batches import Batch, StepConfig, draw_batch
from maskloop_learner.train.examples import ExampleSet, TrainingError
from maskloop_learner.train.gradients import find_culprits, find_gradient
from maskloop_learner.train.team import ALONE, OutOfMemory, Team, is_out_of_memory

log = logging.getLogger(__name__)

LARGEST_GRADIENT = 1.0


@dataclass
class Room:
    """How a step is divided so that it fits into the memory; found once, then kept for the training."""

    parts: int = 1


def take_step(
    model: MedCLIPSeg,
    optimizer: torch.optim.Optimizer,
    learning: list[torch.nn.Parameter],
    data: ExampleSet,
    chosen: list[int],
    tokens: Tensor,
    how: StepConfig,
    generator: Generator,
    *,
    room: Room | None = None,
    team: Team = ALONE,
) -> float:
    """One optimizer step on the chosen examples; the loss before it, 0 where these know of no label.

    `tokens` are the labels' prompts [L, context], or each chosen example's own [B, L, context]. What is not known of
    an example does not count. Raises TrainingError naming the examples whose loss is not finite, and one that says
    what to do when a single image does not fit into the memory. The weights are then as they were.
    """
    batch = draw_batch(model, data, chosen, tokens, how, generator)
    if batch is None:
        # Nothing to learn from, and a step on a gradient of zeros would still move the weights.
        return 0.0
    loss = fit_into(room or Room(), model, optimizer, learning, batch, how, team)
    norm = torch.nn.utils.clip_grad_norm_(learning, LARGEST_GRADIENT)
    if not math.isfinite(loss) or not math.isfinite(norm.item()):
        optimizer.zero_grad(set_to_none=True)
        raise TrainingError(blame(model, learning, batch, how, team, data, loss, norm.item()))
    try:
        optimizer.step()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"out of memory in the optimizer, which needs twice the weights' size: {error}") from None
    return loss


def fit_into(
    room: Room,
    model: MedCLIPSeg,
    optimizer: torch.optim.Optimizer,
    learning: list[torch.nn.Parameter],
    batch: Batch,
    how: StepConfig,
    team: Team,
) -> float:
    """The batch's gradient, in halves, quarters and so on as the memory asks for; at last with less kept per image."""
    while True:
        optimizer.zero_grad(set_to_none=True)
        try:
            return find_gradient(model, learning, batch, how, parts=room.parts, team=team)
        except OutOfMemory as error:
            said = str(error)
        # All that the failed attempt held is free only now, after the handler.
        optimizer.zero_grad(set_to_none=True)
        if model.device.type == "cuda":
            torch.cuda.empty_cache()
        largest = math.ceil(len(batch.chosen) / team.size)
        if room.parts < largest:
            room.parts *= 2
            now = math.ceil(largest / room.parts)
            log.warning("out of memory (%s): from now on %d images at a time, for the same result", said, now)
        elif not model.checkpointing:
            model.checkpointing = True
            log.warning("out of memory (%s) with one image: from now on activations are computed twice", said)
        else:
            raise TrainingError(
                f"out of memory with a single image and its {batch.masks.shape[1]} labels ({said}); free memory on the "
                "device, train on another (MASKLOOP_DEVICE), in bf16 (MASKLOOP_PRECISION) or with a smaller backbone "
                "(MASKLOOP_BACKBONE)"
            )


def blame(
    model: MedCLIPSeg,
    learning: list[torch.nn.Parameter],
    batch: Batch,
    how: StepConfig,
    team: Team,
    data: ExampleSet,
    loss: float,
    norm: float,
) -> str:
    """What a loss or gradient that is not finite comes from, and what to do."""
    what = f"the loss or its gradient is not finite ({loss}, {norm})"
    bad = find_culprits(model, learning, batch, how, team=team)
    for parameter in learning:
        parameter.grad = None
    names = ", ".join(sorted({data.names[batch.chosen[k]] for k in (bad or range(len(batch.chosen)))}))
    if not all(bool(p.isfinite().all()) for p in learning):
        return f"{what} because the weights are not: they were damaged; train again from the base weights"
    if bad and len(bad) == len(batch.chosen) > 1:
        return (
            f"{what} on all images of the step: {names}; the weights have run away, or all these images are damaged: "
            "look at them, then train again"
        )
    return f"{what} on {names}; look at these images and masks, then train again"
