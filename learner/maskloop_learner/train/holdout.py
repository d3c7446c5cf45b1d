"""Early stopping: a few of the images to learn from are held out, and training ends when it no longer helps them.

They are taken from the training images, never from the gate's validation set: whoever chooses a step by images can
no longer be measured by them.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.model.preprocess import normalise
from maskloop_learner.prompts.location import find_location
from maskloop_learner.train.examples import ExampleSet, TrainingError
from maskloop_learner.train.losses import segmentation_loss
from maskloop_learner.train.prompts import read_prompts
from maskloop_learner.train.recipe import Recipe
from maskloop_learner.train.team import Team

SHARE = 0.15
LEAST, MOST = 3, 64
"""Images held out: fewer say nothing, more cost time at every look."""
LOOKS = 20
"""How often a training of full length would look at them."""
FIRST = 0.5
"""Share of the steps before the first look. At the highest learning rates the loss rises before it falls: on 42 images
of BUSI, patience 3 from the first step on ended after 45 of 300 steps with the start's weights: Dice 0.34, not 0.55."""


def hold_out(data: ExampleSet) -> list[int]:
    """The examples to hold out, by whole groups; none where there are too few.

    Which groups depends on their names alone. A label's only images are never taken from those to learn from.
    """
    wanted = min(MOST, round(SHARE * len(data.names)))
    if wanted < LEAST:
        return []
    groups: dict[str, list[int]] = {}
    for k, group in enumerate(data.groups):
        groups.setdefault(group, []).append(k)
    there = data.known & data.masks.flatten(2).any(dim=2)
    left, held = there.sum(dim=0), list[int]()
    for group in sorted(groups, key=lambda name: hashlib.sha256(f"held-out:{name}".encode()).hexdigest()):
        members = groups[group]
        rest = left - there[members].sum(dim=0)
        if len(held) + len(members) > wanted or bool(((rest == 0) & (left > 0)).any()):
            continue
        held, left = held + members, rest
    return sorted(held) if len(held) >= LEAST else []


def take(data: ExampleSet, chosen: Sequence[int]) -> ExampleSet:
    """Some of the examples, asked by their own prompts except where these tell a location: so is validated too."""
    at = list(chosen)
    prompts: list[Mapping[str, str]] = []
    for k in at:
        own = data.prompts[k]
        prompts.append({label: text for label, text in own.items() if find_location(text, allow=label) is None})
    return ExampleSet(
        names=[data.names[k] for k in at],
        images=data.images[at],
        masks=data.masks[at],
        known=data.known[at],
        prompts=prompts,
        lesser=[{} for _ in at],
        digest="",
        groups=[data.groups[k] for k in at],
    )


class Examiner:
    """Measures a model on held-out examples: Dice and cross entropy of one deterministic pass, without augmentation."""

    def __init__(
        self, model: MedCLIPSeg, data: ExampleSet, labels: Sequence[str], prompts: Mapping[str, str], *, team: Team
    ) -> None:
        self._model, self._data, self._team = model, data, team
        table = read_prompts(model, data, labels, prompts)
        self._tokens = [table.tokens[rows.to(table.tokens.device)] for rows in table.own]

    def look(self, tick: Callable[[], None]) -> float:
        """Mean loss over the known (image, label) pairs. `tick` is called before each image and may raise.

        Raises TrainingError naming the images whose loss is not finite.
        """
        model, data = self._model, self._data
        sums = torch.zeros(2, len(data.names), device=model.device)
        model.eval()
        try:
            for k in self._team.share(len(data.names)):
                tick()
                if bool(data.known[k].any()):
                    each = self._losses(k)
                    sums[0, k], sums[1, k] = each.sum(), len(each)
        finally:
            model.train()
        sums = self._team.sum(sums)
        if bad := [data.names[k] for k in (~sums[0].isfinite()).nonzero().flatten().tolist()]:
            raise TrainingError(f"the loss of held-out images is not finite: {', '.join(bad)}; look at them")
        total, count = sums.sum(dim=1).tolist()
        return total / count if count else math.inf

    @torch.no_grad()
    def _losses(self, k: int) -> Tensor:
        model, data = self._model, self._data
        image = normalise(data.images[[k]].float() / 255, model.preprocessing).to(model.device)
        asked = data.known[k]
        logits = model(image, self._tokens[k][asked.to(model.device)], None).logits
        return segmentation_loss(logits.float(), data.masks[k][asked].to(model.device).float() / 255)


@dataclass
class Watch:
    """How long nothing has got better, and the best weights so far."""

    patience: int
    """Looks without a better one after which training ends."""
    every: int
    """Steps between two looks."""
    first: int = 0
    """Steps before the first look."""
    looked: int = -1
    """Steps done at the last look."""
    stale: int = 0
    best: float = math.inf
    step: int = 0
    """Steps done at the best look."""
    weights: dict[str, Tensor] | None = None

    def due(self, step: int, steps: int) -> bool:
        """Whether to look after so many steps."""
        return step > self.looked and step >= self.first and (step % self.every == 0 or step == steps)

    def note(self, step: int, loss: float, weights: Mapping[str, Tensor]) -> None:
        """Take a look's result in."""
        self.looked = step
        if loss < self.best:
            self.best, self.step, self.stale = loss, step, 0
            self.weights = {name: value.detach().cpu().clone() for name, value in weights.items()}
        else:
            self.stale += 1

    @property
    def ended(self) -> bool:
        """Whether training should end."""
        return self.stale >= self.patience

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "looked": self.looked,
            "stale": self.stale,
            "best": self.best,
            "step": self.step,
            "weights": self.weights,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        for name in ("looked", "stale", "best", "step", "weights"):
            setattr(self, name, state[name])


def watch_of(recipe: Recipe) -> Watch:
    """The watch over a training of the recipe."""
    return Watch(recipe.patience, every=max(1, recipe.steps // LOOKS), first=int(recipe.steps * FIRST))
