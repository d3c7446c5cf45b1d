"""What makes a simulation's figures say less than they seem to."""

from collections.abc import Sequence

import numpy as np

from maskloop_learner.select.curves import interval
from maskloop_learner.select.plan import BASELINE, Plan

FEW_SEEDS = 3
FEW_GROUPS = 20
"""Of test images: with fewer, a bootstrap over them is a guess."""
NEARLY_ALL = 0.7
"""Share of the pool from which on curves must meet, because all strategies have mostly the same images."""


def warn_before(plan: Plan) -> list[str]:
    """What is known before anything is trained."""
    found = []
    if plan.seeds < FEW_SEEDS:
        found.append(
            f"{plan.seeds} {'seed says' if plan.seeds == 1 else 'seeds say'} little: differences between strategies "
            f"are as small as those between seeds; take {FEW_SEEDS} or more, better 5"
        )
    if (groups := len(set(groups_of_test(plan)))) < FEW_GROUPS:
        found.append(
            f"{len(plan.ground.test)} test images in {groups} groups say little of others; take more images, or a "
            "larger --test-share"
        )
    share = plan.budgets[-1] / len(plan.ground.pool)
    if share > NEARLY_ALL:
        found.append(
            f"the last round has {plan.budgets[-1]} of the pool's {len(plan.ground.pool)} images ({share:.0%}): curves "
            "must meet there, whatever the strategy"
        )
    return found


def warn_flat(plan: Plan, random: Sequence[Sequence[float]]) -> list[str]:
    """Whether labels bought anything at all: where they did not, no choice of them can. random: [seeds][rounds]."""
    curves = np.asarray(random, np.float64)
    rise = interval(curves[:, -1] - curves[:, 0])
    if rise.low is None or rise.low > 0:
        return []
    return [
        f"{BASELINE}'s Dice does not surely rise from {plan.budgets[0]} to {plan.budgets[-1]} labels "
        f"({rise.mean:+.4f}, {rise.low:+.4f} to {rise.high:+.4f}): where labels buy nothing, choosing them cannot "
        "either; take more rounds, larger batches or more --steps"
    ]


def groups_of_test(plan: Plan) -> list[str]:
    """[I] of each test image in order; an image alone is a group of its own."""
    return [
        f"group {group}" if (group := plan.ground.groups[place]) >= 0 else f"image {place}"
        for place in plan.ground.test
    ]
