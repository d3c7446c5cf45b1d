"""What the report draws as charts; None where there is too little to draw."""

from collections.abc import Sequence
from datetime import date

from markupsafe import Markup

from maskloop_backend.overview.models import Figure, Models, Version
from maskloop_backend.overview.people import People
from maskloop_backend.report.names import Names
from maskloop_backend.report.progress import Progress
from maskloop_learner.select.chart import Chart, Line, Point, draw_svg

MOST_LINES = 6
"""Annotators with a line of their own."""


def draw(chart: Chart) -> Markup:
    """The chart as a part of a page; `draw_svg` escapes what people called things."""
    return Markup(draw_svg(chart))


def draw_progress(progress: Progress) -> Markup | None:
    """Labelled images over the days; None before the second day."""
    grown = progress.grown
    if len(grown) < 2:
        return None
    first = grown[0][0]
    points = [Point((day - first).days, total) for day, total in grown]
    return draw(
        Chart(
            title="Labelled images",
            x_title=f"days since {first:%Y-%m-%d}",
            y_title="images with a label",
            lines=[Line("labelled", points)],
        )
    )


def draw_learning(models: Models) -> Markup | None:
    """Dice over the number of labels, with intervals; None where fewer than two models have both."""
    found = sorted(
        (each for each in models.versions if each.labels is not None and each.dice is not None),
        key=lambda each: (each.labels or 0, each.model),
    )
    # Of several trainings on the same labels the last counts: two points in one place are no curve.
    last = {each.labels: each for each in found}
    if len(last) < 2:
        return None
    lines = [Line("all labels", [_point(each.labels or 0, each.dice) for each in last.values() if each.dice])]
    names = list(dict.fromkeys(name for each in last.values() for name in each.by_label))
    if len(names) > 1:
        lines += [
            Line(
                name, [_point(each.labels or 0, each.by_label[name]) for each in last.values() if name in each.by_label]
            )
            for name in names
        ]
    return draw(
        Chart(
            title="Dice by labels learnt from",
            x_title="labels in the snapshot",
            y_title="mean Dice on the validation images",
            lines=lines,
        )
    )


def draw_calibration(version: Version) -> Markup | None:
    """What the model says of its pixels against what they were; None where no bins were kept."""
    if not any(version.reliability.values()):
        return None
    lines = [
        Line(label, [Point(each.probability, each.frequency) for each in bins])
        for label, bins in version.reliability.items()
        if bins
    ]
    return draw(
        Chart(
            title="Calibration",
            x_title="probability that the model gives",
            y_title="share that was in truth foreground",
            lines=[*lines, Line("perfect", [Point(0, 0), Point(1, 1)], baseline=True)],
        )
    )


def draw_labels(people: People, names: Names) -> Markup | None:
    """Labels of each annotator by day or week; of more than a few, all together. None before the second day."""
    days = sorted(people.by_day)
    if len(days) < 2 or not people.everyone.labels:
        return None
    drawn = [person.name for person in people.persons if person.labels]
    together = len(drawn) > MOST_LINES
    lines = (
        [Line("all annotators", [Point(_since(days, day), people.by_day[day].total()) for day in days])]
        if together
        else [
            Line(names.of(name) or "unknown", [Point(_since(days, day), people.by_day[day][name]) for day in days])
            for name in drawn
        ]
    )
    every = "week" if people.weekly else "day"
    return draw(
        Chart(title=f"Labels a {every}", x_title=f"days since {days[0]:%Y-%m-%d}", y_title="labels", lines=lines)
    )


def draw_agreement(people: People) -> Markup | None:
    """Dice between the mask shown and the final one, label by label, by day or week; None before the second day."""
    days = sorted({day for found in people.dice_by_day.values() for day in found})
    if len(days) < 2:
        return None
    lines = [
        Line(label, [Point(_since(days, day), each.median, each.low, each.high) for day, each in found.items()])
        for label, found in people.dice_by_day.items()
    ]
    return draw(
        Chart(
            title="How near the model's masks come to the final ones",
            x_title=f"days since {days[0]:%Y-%m-%d}",
            y_title="Dice of the mask shown",
            lines=lines,
        )
    )


def _since(days: Sequence[date], day: date) -> int:
    return (day - days[0]).days


def _point(x: float, figure: Figure) -> Point:
    return Point(x, figure.mean, figure.low, figure.high)
