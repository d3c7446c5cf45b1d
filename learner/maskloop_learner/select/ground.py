"""What all strategies of a simulation share: which images test and which may be chosen, and the first labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from maskloop_learner.pool.duplicates import find_duplicates
from maskloop_learner.pool.looks import Look, look_at
from maskloop_learner.pool.split import Past, split_groups
from maskloop_learner.select.labelled import LabelledError, Subject


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Subjects by their places in the list; none is in both parts."""

    test: tuple[int, ...]
    pool: tuple[int, ...]
    groups: tuple[int, ...]
    """[N] number of each subject's group; -1: a group of its own."""
    looks: tuple[Look, ...]
    """[N]"""


def survey(subjects: Sequence[Subject], *, tick: Callable[[], None] = lambda: None) -> tuple[list[Look], list[bool]]:
    """Read every subject once: what it looks like, and whether any of its masks is not empty. Raises ItemError."""
    looks, marked = [], []
    for subject in subjects:
        image, masks = subject.open()
        looks.append(look_at(Pillow.fromarray(image)))
        marked.append(any(bool(mask.any()) for mask in masks.values()))
        tick()
    return looks, marked


def part(subjects: Sequence[Subject], looks: Sequence[Look], *, test_share: float) -> Ground:
    """Freeze the test images: `test_share` of all, by whole groups, whatever the seed or the order of the folder.

    Pictures that are nearly one belong to one group, as in a project's split of its labels. Raises LabelledError where
    there are too few groups to part.
    """
    names = [subject.group or subject.name for subject in subjects]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    groups = np.array([numbers[name] for name in names])
    for first, second in find_duplicates(looks, groups.tolist()):
        groups[groups == groups[second]] = groups[first]
    # A group is called by its first subject or key, so that its chance does not depend on what else is there.
    members: dict[int, list[int]] = {}
    for place, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(place)
    called = {min(names[place] for place in places): places for places in members.values()}
    if len(called) < 2:
        raise LabelledError(
            f"all {len(subjects)} images belong to one group, so none can test what the others teach; "
            "see --group-pattern"
        )
    images = {name: [subjects[place].name for place in places] for name, places in called.items()}
    chosen = split_groups(images, Past(), share=test_share)
    test = sorted(place for name in chosen.validation for place in called[name])
    pool = sorted(set(range(len(subjects))) - set(test))
    alone = {group for group, places in members.items() if len(places) == 1}
    return Ground(
        test=tuple(test),
        pool=tuple(pool),
        groups=tuple(-1 if group in alone else group for group in groups.tolist()),
        looks=tuple(looks),
    )


def draw_first(pool: Sequence[int], count: int, *, seed: int) -> list[int]:
    """The first labelled images of a seed, the same for all its strategies: `count` of the pool by lot, in order.

    The first of a larger `count` hold those of a smaller one.
    """
    if not 1 <= count <= len(pool):
        raise LabelledError(f"{count} first labels cannot be drawn from a pool of {len(pool)} images")
    return sorted(np.random.default_rng([seed, 0]).permutation(np.asarray(pool))[:count].tolist())
