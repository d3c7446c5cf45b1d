"""What the report draws as charts; None where there is too little to draw."""

from typing import Any

from markupsafe import Markup

from maskloop_backend.overview.model_charts import draw_curve, draw_reliability
from maskloop_backend.overview.models import Models, Version
from maskloop_backend.overview.people import People
from maskloop_backend.report.names import Names
from maskloop_backend.report.progress import Progress
from maskloop_learner.select.chart import Chart, Line, Point, draw_svg

SHAPE: dict[str, Any] = {"title": "", "width": 760, "height": 320}
"""The headings stand above the charts."""
MOST_LINES, MOST_DOTS = 6, 30
"""Annotators with a line of their own, and points of a line that are marked."""


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
            x_title=f"days since {first:%Y-%m-%d}",
            y_title="labelled images",
            lines=[Line("labelled", points, dots=len(points) <= MOST_DOTS)],
            levels=(0,),
            **SHAPE | {"names": False},
        )
    )


def draw_learning(models: Models) -> Markup | None:
    """Dice over the number of labels, with intervals; None where fewer than two models have both."""
    drawn = [each for each in models.versions if each.dice and each.labels]
    return _draw(draw_curve(drawn, shape=SHAPE) if len(drawn) > 1 else None)


def draw_calibration(version: Version) -> Markup | None:
    """What the model says of its pixels against what they were; None where no bins were kept."""
    return _draw(draw_reliability(version, shape=SHAPE))


def draw_labels(people: People, names: Names) -> Markup | None:
    """Labels of each annotator by day or week; of more than a few, all together. None before the second day."""
    days = sorted(people.by_day)
    while days and not people.by_day[days[-1]]:
        days.pop()  # that nothing has come since is said above
    if len(days) < 2 or not people.everyone.labels:
        return None
    found = [(names.of(each.name) or "unknown", each.name) for each in people.persons if each.labels]
    rows = {said: [people.by_day[day][name] for day in days] for said, name in found}
    if len(rows) > MOST_LINES:
        rows = {"all annotators": [people.by_day[day].total() for day in days]}
    places = [(day - days[0]).days for day in days]
    lines = [
        Line(name, [Point(x, y) for x, y in zip(places, row, strict=True)], dots=len(days) <= MOST_DOTS)
        for name, row in rows.items()
    ]
    every = "week" if people.weekly else "day"
    return draw(Chart(x_title=f"days since {days[0]:%Y-%m-%d}", y_title=f"labels a {every}", lines=lines, **SHAPE))


def draw_agreement(people: People) -> Markup | None:
    """Dice between the mask shown and the final one, label by label, by day or week; None before the second day."""
    days = sorted({day for found in people.dice_by_day.values() for day in found})
    if len(days) < 2:
        return None
    lines = [
        Line(label, [Point((day - days[0]).days, each.median, each.low, each.high) for day, each in found.items()])
        for label, found in people.dice_by_day.items()
    ]
    return draw(
        Chart(
            x_title=f"days since {days[0]:%Y-%m-%d}",
            y_title="Dice of the mask shown",
            lines=lines,
            **SHAPE,
        )
    )


def _draw(chart: Chart | None) -> Markup | None:
    return None if chart is None else draw(chart)
