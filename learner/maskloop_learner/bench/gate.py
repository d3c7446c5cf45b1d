"""Simulated validation sets on which it is known how much better the challenger is, and what the gate makes of them."""

from collections.abc import Sequence

import numpy as np

from maskloop_learner.train.gate import Decision, Rules, decide
from maskloop_learner.train.slices import Case

SD = 0.08
"""Of the difference of Dice from image to image."""
BASE = 0.78
"""The champion's mean Dice."""


def simulate(*, images: int, difference: float, seed: int, sd: float = SD, groups: int | None = None) -> list[Case]:
    """One validation set on which the challenger is better by `difference` (Dice) in truth.

    One label; areas and sources (four) by chance. groups: how many patients the images are of, all of one size;
    None: each image its own.
    """
    rng = np.random.default_rng(seed)
    champion = rng.uniform(BASE - 0.1, BASE + 0.1, images)
    # Clear of 0 and 1, so that the mean and the spread are what was asked for.
    challenger = np.clip(champion + rng.normal(difference, sd, images), 0, 1)
    areas, sources = rng.uniform(0.01, 0.3, images), rng.integers(0, 4, images)
    return [
        Case(
            image=f"{k:064x}",
            group=f"patient {k if groups is None else k % groups}",
            label="Tumor",
            area=float(areas[k]),
            source=f"scanner {sources[k]}",
            champion=float(champion[k]),
            challenger=float(challenger[k]),
        )
        for k in range(images)
    ]


def count_promoted(rules: Rules, *, images: int, difference: float, seeds: Sequence[int]) -> int:
    """In how many of the trials, one per seed, the challenger is promoted."""
    return sum(ask(rules, images=images, difference=difference, seed=seed).promote for seed in seeds)


def ask(rules: Rules, *, images: int, difference: float, seed: int) -> Decision:
    """The gate's decision in one trial."""
    return decide(simulate(images=images, difference=difference, seed=seed), rules=rules)
