"""What follows from a step's number: its learning rate, its examples and its seed."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from maskloop_learner.model.backbones import BackboneSpec


@dataclass(frozen=True)
class Order:
    """Which examples the steps draw from."""

    fresh: Sequence[int]
    """Numbers of the examples; of a warm start those that its model has not learnt from."""
    old: Sequence[int] = ()
    """Those that it has."""
    replay: float = 0.0
    """Share of the places, over the steps, that are for the old ones, 0..1."""

    def pick(self, *, step: int, batch: int, seed: int) -> list[int]:
        """The examples of a step. Each of the two is an endless row of shuffles of its own."""
        share = (self.replay if self.fresh else 1.0) if self.old else 0.0
        # Rounded over the steps, not within one: of two thirds of a batch of four, one step takes 2, another 3.
        before, after = int(step * batch * share), int((step + 1) * batch * share)
        places = range(step * batch - before, (step + 1) * batch - after)
        new = [self.fresh[k] for k in draw(len(self.fresh), places, seed=seed)]
        return new + [self.old[k] for k in draw(len(self.old), range(before, after), seed=step_seed(seed, -1))]


def learning_rate(spec: BackboneSpec, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine from the first to the last rate."""
    high, low = spec.learning_rates
    warm = max(1, round(spec.warmup * steps))
    if step < warm:
        return high * (step + 1) / warm
    return low + (high - low) * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2


def pick(count: int, *, step: int, batch: int, seed: int) -> list[int]:
    """The examples of a step: successive pieces of an endless row of shuffles of 0..count-1."""
    return draw(count, range(step * batch, (step + 1) * batch), seed=seed)


def draw(count: int, places: range, *, seed: int) -> list[int]:
    """What stands at these places of an endless row of shuffles of 0..count-1."""
    chosen: list[int] = []
    for place in places:
        epoch, at = divmod(place, count)
        if not chosen or at == 0:
            order = torch.randperm(count, generator=torch.Generator().manual_seed(step_seed(seed, ~epoch)))
        chosen.append(int(order[at]))
    return chosen


def step_seed(seed: int, step: int) -> int:
    """63 bits for one step of one training."""
    return int.from_bytes(hashlib.sha256(f"{seed} {step}".encode()).digest()[:8], "big") >> 1
