"""Which groups of images validate and which are learnt from: no group is parted, and what validates stays.

Three rules, the first goes first. What has validated validates for ever, and with it its whole group, images that
arrive later included: a model that learns from it could no longer be judged on it. What has been learnt from is not
moved to validation: the champion knows it, and would look better than a challenger that does not. So validation grows
by whole groups that are new, chosen by a hash of their names: neither the order in which they arrive nor what a model
makes of them can sway the choice.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Past:
    """What earlier splits have settled."""

    validation: frozenset[str] = frozenset()
    """Images that have validated."""
    learnt: frozenset[str] = frozenset()
    """Images that have been learnt from."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Names of the groups on each side."""

    validation: frozenset[str]
    train: frozenset[str]


def split_groups(
    groups: Mapping[str, Collection[str]], past: Past, *, share: float, blind: Iterable[str] = ()
) -> Split:
    """Part groups (name -> images, none empty) into training and validation.

    share: of all images, 0..1, that should validate; it is met as nearly as whole groups allow. blind: groups that,
    while they are new, join validation before others and whatever the share. Of two groups at least one validates,
    and at least one is learnt from unless all have validated before.
    """
    learnt = {name for name, images in groups.items() if not past.learnt.isdisjoint(images)}
    chosen = {name for name, images in groups.items() if not past.validation.isdisjoint(images)}
    new = sorted(set(groups) - chosen - learnt, key=_chance)
    wanted = set(blind)
    for name in new:
        if name in wanted and len(chosen) + 1 < len(groups):
            chosen.add(name)
    images = sum(map(len, groups.values()))
    target = min(max(1.0, share * images), images - 1)
    count = sum(len(groups[name]) for name in chosen)
    for name in new:
        size = len(groups[name])
        nearer = abs(count + size - target) < abs(count - target)
        if nearer and name not in chosen and len(chosen) + 1 < len(groups):
            chosen.add(name)
            count += size
    if not chosen and len(groups) > 1:
        # Better a champion with an advantage than no gate at all: of groups that are all learnt, the smallest.
        chosen.add(min(groups, key=lambda name: (name in learnt, len(groups[name]), _chance(name))))
    return Split(validation=frozenset(chosen), train=frozenset(set(groups) - chosen))


def _chance(name: str) -> str:
    return hashlib.sha256(f"validation:{name}".encode()).hexdigest()
