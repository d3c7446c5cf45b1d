"""The gradient of a step: of all images at once, in parts, or each process its own; the same up to rounding.

Dice and cross entropy are sums over images and can be taken in parts. The contrast compares all rows of a step with
each other, but only their mean patches and text vectors: these are computed of all images first, then the contrast's
gradient is carried back into each part (as GradCache does, arXiv 2101.06983). Parts cost one more forward pass each.
"""

import itertools

import torch
from torch import Tensor

from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.train.batches import Answer, Batch, StepConfig, ask
from maskloop_learner.train.losses import CONTRAST_WEIGHT, mean_contrast
from maskloop_learner.train.team import Team


def find_gradient(
    model: MedCLIPSeg, learning: list[torch.nn.Parameter], batch: Batch, how: StepConfig, *, parts: int, team: Team
) -> float:
    """Add the gradient of the batch's loss to the parameters; the loss, the same on all processes.

    Raises OutOfMemory when a part does not fit.
    """
    if parts == 1 and team.size == 1:
        return team.attempt(lambda: whole_gradient(model, batch, how))
    mine = list(team.share(len(batch.chosen)))
    pieces = [batch.part(images) for images in cut(mine, parts)]
    rows = [batch.rows(images) for images in cut(mine, parts)]
    # A single piece keeps its graph; several could not all at once, which is why they are several.
    with torch.set_grad_enabled(len(pieces) == 1):
        answers = team.attempt(lambda: [ask(model, piece, how) for piece in pieces])
    each, patches, text = collect(answers, rows, total=int(batch.known.sum()), team=team, model=model)
    patches.requires_grad_()
    text.requires_grad_()
    contrast = mean_contrast(patches, text, temperature=model.spec.temperature, kind=model.spec.contrast_text)
    by_patches, by_text = torch.autograd.grad(contrast, (patches, text))
    pull = by_patches, by_text
    team.attempt(lambda: carry_back(model, how, pieces, rows, answers, pull, total=len(each)))
    team.add_gradients(learning)
    return (each.mean() + CONTRAST_WEIGHT * contrast).item()


def whole_gradient(model: MedCLIPSeg, batch: Batch, how: StepConfig) -> float:
    """All images in one pass."""
    each, patches, text = ask(model, batch, how)
    contrast = mean_contrast(patches, text, temperature=model.spec.temperature, kind=model.spec.contrast_text)
    loss = each.mean() + CONTRAST_WEIGHT * contrast
    torch.autograd.backward(loss)
    return loss.item()


def carry_back(
    model: MedCLIPSeg,
    how: StepConfig,
    pieces: list[Batch],
    rows: list[Tensor],
    answers: list[Answer],
    pull: tuple[Tensor, Tensor],
    *,
    total: int,
) -> None:
    """Each piece's share of the whole loss's gradient; `pull` is the contrast's, by mean patches and text vectors."""
    for number, (piece, places) in enumerate(zip(pieces, rows, strict=True)):
        answer = answers[number] if len(pieces) == 1 else ask(model, piece, how)
        at = places.to(answer.each.device)
        carried = (answer.patches * pull[0][at]).sum() + (answer.text * pull[1][at]).sum()
        torch.autograd.backward(answer.each.sum() / total + CONTRAST_WEIGHT * carried)


def collect(answers: list[Answer], rows: list[Tensor], *, total: int, team: Team, model: MedCLIPSeg) -> Answer:
    """The rows of all pieces and processes in the order of the whole batch, without their graphs."""
    dim = int(model.spec.clip["embed_dim"])
    each = torch.zeros(total, device=model.device)
    patches, text = torch.zeros(total, dim, device=model.device), torch.zeros(total, dim, device=model.device)
    for answer, places in zip(answers, rows, strict=True):
        at = places.to(model.device)
        each[at], patches[at], text[at] = answer.each.detach(), answer.patches.detach(), answer.text.detach()
    return Answer(team.sum(each), team.sum(patches), team.sum(text))


def cut(images: list[int], parts: int) -> list[list[int]]:
    """Consecutive pieces of nearly the same length, none of them empty."""
    count = min(parts, len(images))
    at = [len(images) * k // count for k in range(count + 1)] if count else []
    return [images[a:b] for a, b in itertools.pairwise(at)]


def find_culprits(
    model: MedCLIPSeg, learning: list[torch.nn.Parameter], batch: Batch, how: StepConfig, *, team: Team
) -> list[int]:
    """Places in the batch of the images whose loss or gradient, each alone, is not finite."""
    bad = torch.zeros(len(batch.chosen), device=model.device)
    for k in team.share(len(batch.chosen)):
        for parameter in learning:
            parameter.grad = None
        answer = ask(model, batch.part([k]), how)
        torch.autograd.backward(answer.each.sum() + answer.patches.sum() + answer.text.sum())
        grads = [p.grad for p in learning if p.grad is not None]
        bad[k] = not all(bool(x.isfinite().all()) for x in (*answer, *grads))
    return team.sum(bad).nonzero().flatten().tolist()
