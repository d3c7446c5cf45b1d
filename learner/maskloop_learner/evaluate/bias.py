"""Automation bias: does somebody take over what the model drew without looking at it?

Whoever finds a mask already drawn tends to leave it, also where it is wrong (Parasuraman and Manzey 2010,
10.1177/0018720810376055; in contouring 10.1007/s10111-017-0436-0). The model then learns its own mistakes, and its
figures look better than it is. That a mask is left is no fault in itself: good ones should be. So the share of masks
that an annotator left unedited is held against two things:

    blind   how often the model's mask is good enough where the annotator was shown none: that share could be left
    peers   how often the others leave theirs

Both only within one prediction version: of a better model more may be left, and who joins late sees only that one.

An alarm needs a difference that chance does not explain (Fisher's exact test, one-sided, added up over versions,
corrected for all annotators and both questions after Holm 1979) and that is large enough to matter. Peers may simply be
fussy: against them it also needs haste, half the time that they take over a mask that they leave. Against blind masks
it needs none: who leaves more than is good enough leaves what is wrong, however long they look at it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from maskloop_learner.evaluate.exact import Stratum, check_part, exceeds, holm

Against = Literal["blind", "peers"]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When there is an alarm."""

    fewest: int = 30
    """Annotations with a mask shown, of the annotator and of the peers together, each of versions that both sides have:
    fewer tell nothing of a habit."""
    fewest_blind: int = 10
    """Blind annotations of versions that the annotator was shown. The test heeds how few they are, but with fewer one
    bad image decides."""
    level: float = 0.01
    """Chance of any false alarm at all where nobody differs. Low: the alarm names a person."""
    margin: float = 0.2
    """By how much the share must be above: with thousands of labels the test finds differences that do not matter."""
    haste: float = 0.5
    """Of the peers' median seconds, at most."""
    fewest_times: int = 5
    """Counted lead times on each side, without which nothing is said of haste."""


RULES = Rules()
GOOD_ENOUGH = 0.8
"""Dice of every label, from which on a blind annotation counts as one that agrees with the model. A convention, and a
lenient one: two people who outline the same thing rarely agree in every pixel, and a high bar would blame those who
rightly leave a mask that is not just as they would have drawn it."""


class Share(NamedTuple):
    """A part of a whole."""

    part: int
    whole: int


@dataclass(frozen=True, kw_only=True)
class Masks:
    """Masks of one prediction version that an annotator was shown."""

    shown: int
    unedited: int
    seconds: Sequence[float] = ()
    """Lead times of unedited ones that count: above zero."""
    all_seconds: Sequence[float] = ()
    """Lead times that count of all; stands in where peers left hardly any unedited."""


@dataclass(frozen=True, kw_only=True)
class Habit:
    """What one annotator did with the masks that were shown."""

    name: str
    versions: Mapping[str, Masks]
    """By prediction version."""


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """An annotator who leaves more masks unedited than can be right; all figures of versions that both sides have."""

    name: str
    against: Against
    shown: int
    """Masks."""
    share: float
    """Of the masks shown, left unedited."""
    others: int
    """Blind annotations, or masks that the peers were shown."""
    expected: float
    """Share of these that agree with the model, or that the peers left unedited; each version weighs as much as among
    the masks shown to the annotator."""
    p: float
    """Corrected for all tests that were made."""
    seconds: float | None
    """Median of the unedited ones; None where too few lead times count."""
    peers_seconds: float | None
    """The peers' median, each version weighing as much as in `seconds`; None against blind ones."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Who was found, and how much was looked at."""

    alarms: list[Alarm]
    """By name."""
    tested: Counter[Against]
    """How many annotators were held against blind images, and how many against the others. Without any, that there is
    no alarm says nothing."""


def find_alarms(habits: Sequence[Habit], *, blind: Mapping[str, Share], rules: Rules = RULES) -> Findings:
    """Who takes masks over too readily; an annotator may be found by either question, or by both.

    blind: prediction version -> annotations whose annotator was shown no mask of it, by lot, and how many of them agree
    with it (Dice of every label at least GOOD_ENOUGH). Raises ValueError for counts that cannot be.
    """
    for habit in habits:
        for masks in habit.versions.values():
            check_part(habit.name, masks.unedited, masks.shown)
    for good, count in blind.values():
        check_part("blind annotations", good, count)
    tests: list[tuple[Habit, Against, dict[str, Stratum]]] = []
    everyone = _add_up(habits)
    for habit in habits:
        peers = {
            version: Share(everyone[version].part - masks.unedited, everyone[version].whole - masks.shown)
            for version, masks in habit.versions.items()
        }
        sides: dict[Against, tuple[Mapping[str, Share], int]] = {
            "blind": (blind, rules.fewest_blind),
            "peers": (peers, rules.fewest),
        }
        for against, (side, fewest) in sides.items():
            strata = _pair(habit, side)
            if _count(strata) >= rules.fewest and sum(each.other_whole for each in strata.values()) >= fewest:
                tests.append((habit, against, strata))
    corrected = holm([exceeds(list(strata.values())) for *_, strata in tests])
    alarms = []
    for (habit, against, strata), p in zip(tests, corrected, strict=True):
        if p <= rules.level:
            alarm = _hold(habit, against, strata, [each for each in habits if each is not habit], p, rules)
            if alarm.share - alarm.expected >= rules.margin and (against == "blind" or _is_hasty(alarm, rules)):
                alarms.append(alarm)
    alarms.sort(key=lambda alarm: (alarm.name, alarm.against))
    return Findings(alarms=alarms, tested=Counter(against for _, against, _ in tests))


def _add_up(habits: Iterable[Habit]) -> dict[str, Share]:
    """Masks left unedited, and shown, of all together."""
    found: dict[str, Share] = {}
    for habit in habits:
        for version, masks in habit.versions.items():
            part, whole = found.get(version, (0, 0))
            found[version] = Share(part + masks.unedited, whole + masks.shown)
    return found


def _pair(habit: Habit, side: Mapping[str, Share]) -> dict[str, Stratum]:
    """Versions that both sides have."""
    return {
        version: Stratum(masks.unedited, masks.shown, *side[version])
        for version, masks in habit.versions.items()
        if masks.shown and version in side and side[version].whole
    }


def _count(strata: Mapping[str, Stratum]) -> int:
    return sum(each.whole for each in strata.values())


def _hold(
    habit: Habit, against: Against, strata: Mapping[str, Stratum], others: Sequence[Habit], p: float, rules: Rules
) -> Alarm:
    shown = _count(strata)
    mine = {version: habit.versions[version].seconds for version in strata}
    if against == "peers":
        seconds, peers_seconds = _paces(mine, others, rules.fewest_times)
    else:
        times = [second for each in mine.values() for second in each]
        seconds, peers_seconds = float(np.median(times)) if len(times) >= rules.fewest_times else None, None
    return Alarm(
        name=habit.name,
        against=against,
        shown=shown,
        share=sum(each.part for each in strata.values()) / shown,
        others=sum(each.other_whole for each in strata.values()),
        expected=sum(each.whole * each.other_part / each.other_whole for each in strata.values()) / shown,
        p=p,
        seconds=seconds,
        peers_seconds=peers_seconds,
    )


def _paces(
    mine: Mapping[str, Sequence[float]], others: Iterable[Habit], fewest: int
) -> tuple[float | None, float | None]:
    """Median seconds of a mask left, of the annotator and of the others, of versions with times on both sides."""
    left: dict[str, list[float]] = {version: [] for version in mine}
    every: dict[str, list[float]] = {version: [] for version in mine}
    for habit in others:
        for version in mine.keys() & habit.versions.keys():
            left[version] += habit.versions[version].seconds
            every[version] += habit.versions[version].all_seconds
    for theirs in (left, every):
        pairs = [(mine[version], theirs[version]) for version in mine if mine[version] and theirs[version]]
        if min(sum(len(a) for a, _ in pairs), sum(len(b) for _, b in pairs)) >= fewest:
            # The same for both sides, and little where one of them has few.
            weights = [len(a) * len(b) / (len(a) + len(b)) for a, b in pairs]
            return _median([a for a, _ in pairs], weights), _median([b for _, b in pairs], weights)
    return None, None


def _median(groups: Sequence[Sequence[float]], weights: Sequence[float]) -> float:
    """Of all values together, where each group weighs as much as is said."""
    values = np.concatenate(groups)
    each = np.repeat([weight / len(group) for group, weight in zip(groups, weights, strict=True)], [*map(len, groups)])
    order = np.argsort(values)
    grown = np.cumsum(each[order])
    return float(values[order[np.searchsorted(grown, grown[-1] / 2)]])


def _is_hasty(alarm: Alarm, rules: Rules) -> bool:
    if alarm.seconds is None or alarm.peers_seconds is None:
        return False
    return alarm.seconds <= rules.haste * alarm.peers_seconds
