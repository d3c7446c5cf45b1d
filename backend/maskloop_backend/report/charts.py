"""What the report draws as charts; None where there is too little to draw."""

from markupsafe import Markup

from maskloop_backend.overview.models import Figure, Models, Version
from maskloop_backend.report.progress import Progress
from maskloop_learner.select.chart import Chart, Line, Point, draw_svg


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


def _point(x: float, figure: Figure) -> Point:
    return Point(x, figure.mean, figure.low, figure.high)
