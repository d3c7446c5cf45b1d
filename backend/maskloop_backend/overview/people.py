"""How annotators work and how much the model helps them: labels per day, seconds, what is left unedited, Dice.

An annotation of several images counts once. Times count where they are above zero: a lead time of zero or none says
that nobody measured, not that it took no time. What was shown, and how far it was changed, is in the labels already.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median

from sqlalchemy.orm import Session

from maskloop_backend.overview.annotations import Annotation, read_annotations
from maskloop_learner.evaluate.bias import GOOD_ENOUGH, Against, Alarm, Habit, Masks, Share, find_alarms
from maskloop_learner.evaluate.spread import Spread, shares, spread
from maskloop_learner.pool.schema import Project, utcnow

BINS = 10
"""Of a distribution of Dice, each a tenth wide."""
MOST_DAYS = 45
"""Beyond this a chart has a point a week."""
FEWEST = 6
"""Times of an annotator on each side, from which on they are compared: with fewer, nothing is sure of their medians."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """Annotations of one kind, with the seconds that each took."""

    count: int
    uncounted: int
    """Of these, how many have a lead time of zero or none."""
    seconds: Spread | None


@dataclass(frozen=True, kw_only=True)
class Person:
    """One annotator, or all together."""

    name: str
    """As Label Studio has it; UNKNOWN where it does not tell."""
    labels: int
    skipped: int
    pending: int
    """Labels that were not compared yet."""
    every: Way
    accepted: Way
    """Left as the model drew them, pixel by pixel."""
    edited: Way
    masked: Way
    """Both, and those that can be compared no more: all that began with a mask."""
    blind: Way
    """Drawn without a mask, by lot."""
    alone: Way
    """Drawn without a mask because there was none, or because the annotator began anew."""
    unknown: int
    """It cannot be told any more what was shown."""
    dice: Spread | None
    """Between the mask shown and the final one, each label of each image."""
    by_label: dict[str, Spread]
    histogram: list[float]
    """Share of these Dice in each tenth."""
    paces: list[float]
    """Median seconds with a mask, as a share of those of blind annotations: of each annotator with FEWEST times or more
    on both sides. Held against each other's, one annotator's pace would pass for what masks save."""

    @property
    def share(self) -> float | None:
        """Of the masks that were shown, how many were left as they were; None of none."""
        compared = self.accepted.count + self.edited.count
        return self.accepted.count / compared if compared else None

    @property
    def saving(self) -> float | None:
        """By which share of the time an annotator is quicker with a mask than blind, the median of `paces`; negative
        where masks cost time."""
        return 1 - median(self.paces) if self.paces else None


@dataclass(frozen=True, kw_only=True)
class People:
    """All of a project's annotators in a period."""

    days: int | None
    """Length of the period up to now; None: since ever."""
    persons: list[Person]
    """Whoever labelled most first."""
    everyone: Person
    by_day: dict[date, Counter[str]]
    """Day, or Monday of a week where `weekly`, -> labels of each annotator; days without labels too."""
    dice_by_day: dict[str, dict[date, Spread]]
    """Label -> day or Monday -> Dice between the mask shown and the final one."""
    weekly: bool
    alarms: list[Alarm]
    tested: Counter[Against]
    """How many annotators were held against blind images, and how many against the others."""
    blind: int
    """Blind annotations that can be compared with what the model would have shown."""
    good: int
    """Of these, how many agree with it: Dice of every label at least GOOD_ENOUGH."""
    blind_dice: dict[str, Spread]
    """Label -> Dice of these: how good the model is where nobody saw its mask."""
    blind_share: float
    """The project's setting."""


def look_at_people(session: Session, project_id: int, *, days: int | None = 90, now: datetime | None = None) -> People:
    """What the annotators of a project did in the last so many days (None: ever); annotations that are current.

    An annotation that is edited later counts as it is now, on the day on which it was first taken in. Raises ValueError
    for fewer days than one.
    """
    if days is not None and days < 1:
        raise ValueError(f"days must be 1 or more, or None for all, got {days!r}")
    now = now or utcnow()
    since = now - timedelta(days=days) if days is not None else None
    works = read_annotations(session, project_id, since)
    labelled = [work for work in works if not work.skipped]
    by_author: dict[str, list[Annotation]] = defaultdict(list)
    for work in works:
        by_author[work.author].append(work)
    persons = [_person(name, theirs) for name, theirs in by_author.items()]
    persons.sort(key=lambda person: (-person.labels, person.name))
    first = min((work.day for work in labelled), default=now.date())
    weekly = (now.date() - first).days > MOST_DAYS
    blind = [work for work in labelled if work.shown == "blind" and work.dice]
    agreed = _agreed(blind)
    found = find_alarms([_habit(name, theirs) for name, theirs in by_author.items()], blind=agreed)
    return People(
        days=days,
        persons=persons,
        everyone=_person("all", works),
        by_day=_by_day(labelled, first, now.date(), weekly=weekly),
        dice_by_day=_dice_by_day(labelled, weekly=weekly),
        weekly=weekly,
        alarms=found.alarms,
        tested=found.tested,
        blind=sum(share.whole for share in agreed.values()),
        good=sum(share.part for share in agreed.values()),
        blind_dice=_by_label(blind),
        blind_share=session.get_one(Project, project_id).blind_share or 0.0,
    )


def day_of(day: date, *, weekly: bool) -> date:
    """The day itself, or the Monday of its week."""
    return day - timedelta(days=day.weekday()) if weekly else day


def _person(name: str, works: Sequence[Annotation]) -> Person:
    kinds: dict[str, list[Annotation]] = defaultdict(list)
    for work in works:
        kinds[work.kind].append(work)
    masked = [*kinds["accepted"], *kinds["edited"], *kinds["uncompared"]]
    dice = [value for work in masked for _, value in work.dice]
    return Person(
        name=name,
        labels=len(works) - len(kinds["skipped"]),
        skipped=len(kinds["skipped"]),
        pending=len(kinds["pending"]),
        every=_way(work for work in works if not work.skipped),
        accepted=_way(kinds["accepted"]),
        edited=_way(kinds["edited"]),
        masked=_way(masked),
        blind=_way(kinds["blind"]),
        alone=_way(kinds["nothing"]),
        unknown=len(kinds["unknown"]),
        dice=spread(dice),
        by_label=_by_label(masked),
        histogram=shares(dice, bins=BINS),
        paces=_paces(masked, kinds["blind"]),
    )


def _paces(masked: Iterable[Annotation], blind: Iterable[Annotation]) -> list[float]:
    times: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for side, works in enumerate((masked, blind)):
        for work in works:
            if work.seconds is not None:
                times[work.author][side].append(work.seconds)
    return [median(a) / median(b) for a, b in times.values() if min(len(a), len(b)) >= FEWEST]


def _way(works: Iterable[Annotation]) -> Way:
    times = [work.seconds for work in works]
    counted = [each for each in times if each is not None]
    return Way(count=len(times), uncounted=len(times) - len(counted), seconds=spread(counted))


def _by_label(works: Iterable[Annotation]) -> dict[str, Spread]:
    found: dict[str, list[float]] = defaultdict(list)
    for work in works:
        for label, value in work.dice:
            found[label].append(value)
    return {label: each for label in sorted(found) if (each := spread(found[label])) is not None}


def _habit(name: str, works: Iterable[Annotation]) -> Habit:
    versions: dict[str, list[Annotation]] = defaultdict(list)
    for work in works:
        if work.kind in ("accepted", "edited") and work.version is not None:
            versions[work.version].append(work)
    return Habit(name=name, versions={version: _masks(compared) for version, compared in versions.items()})


def _masks(compared: Sequence[Annotation]) -> Masks:
    accepted = [work for work in compared if work.unedited]
    return Masks(
        shown=len(compared),
        unedited=len(accepted),
        seconds=[work.seconds for work in accepted if work.seconds is not None],
        all_seconds=[work.seconds for work in compared if work.seconds is not None],
    )


def _agreed(blind: Iterable[Annotation]) -> dict[str, Share]:
    """Version -> blind annotations, and how many of them agree with what it would have drawn."""
    good: dict[str, list[bool]] = defaultdict(list)
    for work in blind:
        if work.version is not None:
            good[work.version].append(min(value for _, value in work.dice) >= GOOD_ENOUGH)
    return {version: Share(sum(each), len(each)) for version, each in good.items()}


def _by_day(works: Iterable[Annotation], first: date, last: date, *, weekly: bool) -> dict[date, Counter[str]]:
    step = timedelta(days=7 if weekly else 1)
    day, found = day_of(first, weekly=weekly), dict[date, Counter[str]]()
    while day <= last:
        found[day] = Counter()
        day += step
    for (exact, author), count in Counter((work.day, work.author) for work in works).items():
        found.setdefault(day_of(exact, weekly=weekly), Counter())[author] += count
    return found


def _dice_by_day(works: Iterable[Annotation], *, weekly: bool) -> dict[str, dict[date, Spread]]:
    found: dict[str, dict[date, list[float]]] = defaultdict(lambda: defaultdict(list))
    days: dict[date, date] = {}
    for work in works:
        if work.shown != "model" or not work.dice:
            continue
        if (day := days.get(work.day)) is None:
            day = days[work.day] = day_of(work.day, weekly=weekly)
        for label, value in work.dice:
            found[label][day].append(value)
    return {
        label: {day: each for day in sorted(by_day) if (each := spread(by_day[day])) is not None}
        for label, by_day in sorted(found.items())
    }
