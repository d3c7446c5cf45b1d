"""Automation bias: does somebody take over what the model drew without looking at it?

Whoever finds a mask already drawn tends to leave it, also where it is wrong (Parasuraman and Manzey 2010,
10.1177/0018720810376055; in contouring 10.1007/s10111-017-0436-0). The model then learns its own mistakes, and its
figures look better than it is. That a mask is left is no fault in itself: good ones should be. So the share of masks
that an annotator left unedited is held against two things:

    blind   how often the model's mask is good enough where the annotator was shown none: that share could be left
    peers   how often the others leave theirs, of the same model on the same kind of images

An alarm needs a difference that chance does not explain (Fisher's exact test, one-sided, corrected for all annotators
and both questions after Holm 1979) and that is large enough to matter. Peers may simply be fussy: against them it also
needs haste, half the time that they take over a mask that they leave. Against blind masks it needs none: who leaves
more than is good enough leaves what is wrong, however long they look at it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Against = Literal["blind", "peers"]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When there is an alarm."""

    fewest: int = 30
    """Annotations with a mask shown, of the annotator and of the peers together: fewer tell nothing of a habit."""
    fewest_blind: int = 10
    """Blind annotations. The test heeds how few they are, but with fewer one bad image decides."""
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


@dataclass(frozen=True, kw_only=True)
class Habit:
    """What one annotator did with the masks that were shown."""

    name: str
    shown: int
    unedited: int
    seconds: Sequence[float]
    """Lead times of unedited ones that count: above zero."""
    all_seconds: Sequence[float] = ()
    """Lead times that count of all with a mask shown; stands in where peers left hardly any unedited."""


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """An annotator who leaves more masks unedited than can be right."""

    name: str
    against: Against
    share: float
    """Of the masks shown, left unedited."""
    expected: float
    """Share of blind annotations that agree with the model, or share that peers left unedited."""
    p: float
    """Corrected for all tests that were made."""
    seconds: float | None
    """Median of the unedited ones; None where no lead time counts."""
    peers_seconds: float | None
    """The peers' median."""


def find_alarms(habits: Sequence[Habit], *, blind: int, good: int, rules: Rules = RULES) -> list[Alarm]:
    """Who takes masks over too readily, by name; an annotator may be found by either question, or by both.

    blind: annotations whose annotator was shown no mask, by lot; good: of these, how many agree with the model (Dice of
    every label at least GOOD_ENOUGH). Raises ValueError for counts that cannot be.
    """
    for habit in habits:
        _check(habit.name, habit.unedited, habit.shown)
    _check("blind annotations", good, blind)
    tests: list[tuple[Alarm, bool]] = []
    for habit in habits:
        if habit.shown < rules.fewest:
            continue
        others = [each for each in habits if each is not habit]
        if blind >= rules.fewest_blind:
            tests.append((_hold(habit, "blind", good, blind, others, rules), True))
        left, seen = sum(each.unedited for each in others), sum(each.shown for each in others)
        if seen >= rules.fewest:
            alarm = _hold(habit, "peers", left, seen, others, rules)
            tests.append((alarm, _is_hasty(alarm, rules)))
    corrected = holm([alarm.p for alarm, _ in tests])
    found = []
    for (alarm, matters), p in zip(tests, corrected, strict=True):
        if matters and p <= rules.level and alarm.share - alarm.expected >= rules.margin:
            found.append(replace(alarm, p=p))
    return sorted(found, key=lambda alarm: (alarm.name, alarm.against))


def exceeds(hits: int, count: int, other_hits: int, other_count: int) -> float:
    """Fisher's exact test, one-sided: the chance of so many hits or more of `count`, were both sides alike."""
    _check("the first side", hits, count)
    _check("the second side", other_hits, other_count)
    total, all_hits = count + other_count, hits + other_hits
    k = np.arange(hits, min(count, all_hits) + 1, dtype=np.float64)
    if hits <= max(0, all_hits - other_count):
        return 1.0
    logs = (
        _log_choose(all_hits, k)
        + _log_choose(total - all_hits, count - k)
        - _log_choose(total, np.float64(count) + 0 * k)
    )
    return min(1.0, math.fsum(np.exp(logs)))


def holm(ps: Sequence[float]) -> list[float]:
    """P-values corrected for how many there are (Holm 1979, a step-down Bonferroni), in the order given."""
    order = sorted(range(len(ps)), key=lambda place: ps[place])
    found, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, ps[place] * (len(ps) - rank)))
        found[place] = largest
    return found


def _hold(habit: Habit, against: Against, hits: int, count: int, others: Sequence[Habit], rules: Rules) -> Alarm:
    times = [second for each in others for second in each.seconds]
    if len(times) < rules.fewest_times:
        times = [second for each in others for second in each.all_seconds]
    return Alarm(
        name=habit.name,
        against=against,
        share=habit.unedited / habit.shown,
        expected=hits / count,
        p=exceeds(habit.unedited, habit.shown, hits, count),
        seconds=_median(habit.seconds, rules.fewest_times),
        peers_seconds=_median(times, rules.fewest_times),
    )


def _median(seconds: Sequence[float], fewest: int) -> float | None:
    return float(np.median(seconds)) if len(seconds) >= fewest else None


def _is_hasty(alarm: Alarm, rules: Rules) -> bool:
    if alarm.seconds is None or alarm.peers_seconds is None:
        return False
    return alarm.seconds <= rules.haste * alarm.peers_seconds


def _log_choose(n: int, k: Numbers) -> Numbers:
    found: Numbers = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return found


def _check(name: str, hits: int, count: int) -> None:
    if not 0 <= hits <= count:
        raise ValueError(f"{name}: a part must be between 0 and the whole, got {hits!r} of {count!r}")
