"""Charts of models: what labels bought, whether probabilities mean what they say, how the loss fell."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from maskloop_backend.overview.models import Figure, Version
from maskloop_learner.select.layout import Chart, Line, Point, ticks

SHAPE: dict[str, Any] = {"title": "", "width": 560, "height": 320, "names": False}
"""For a page that says by itself what the chart is, and which colour is which."""
MOST_LABELS = 5
"""Labels with a line of their own; of more the mean alone is drawn."""
MEAN = "mean of the labels"
PERFECT = "as it should be"


def draw_curve(versions: Iterable[Version], *, shape: dict[str, Any] = SHAPE) -> Chart | None:
    """Validation Dice over the number of labels, a ring for a model that never served; None without any figure.

    The band is the mean's 95 % interval.
    """
    shown = sorted((each for each in versions if each.dice and each.labels), key=lambda each: (each.labels, each.model))
    labels = sorted({label for each in shown for label in each.by_label})
    if not shown:
        return None
    lines = [Line(MEAN if len(labels) > 1 else (labels or [MEAN])[0], [_point(each, each.dice) for each in shown])]
    for label in labels if 1 < len(labels) <= MOST_LABELS else ():
        points = [_point(each, each.by_label[label], band=False) for each in shown if label in each.by_label]
        lines.append(Line(label, points))
    counts = [float(each.labels or 0) for each in shown]
    return Chart(x_title="labels", y_title="Dice on validation images", lines=lines, x_marks=_marks(counts), **shape)


def draw_reliability(version: Version, *, shape: dict[str, Any] = SHAPE) -> Chart | None:
    """Share of pixels that are foreground over the probability that was stated; None where it was not kept."""
    lines = [
        Line(label, [Point(each.probability, each.frequency, note=f"{each.pixels} pixels") for each in bins])
        for label, bins in version.reliability.items()
        if bins
    ]
    if not lines:
        return None
    perfect = Line(PERFECT, [Point(0, 0), Point(1, 1)], baseline=True, dots=False)
    return Chart(
        x_title="probability that was stated",
        y_title="share in truth",
        lines=[*lines, perfect],
        x_marks=(0, 0.2, 0.4, 0.6, 0.8, 1),
        x_range=(0, 1),
        **shape,
    )


def draw_loss(losses: Sequence[tuple[int, float]], *, steps: int, shape: dict[str, Any] = SHAPE) -> Chart | None:
    """The training loss over steps, on an axis that is as long as the training; None before there is any."""
    if not losses:
        return None
    line = Line("training loss", [Point(step, loss) for step, loss in losses], dots=len(losses) < 2)
    end = float(max(steps, losses[-1][0]))
    return Chart(
        x_title="step", y_title="training loss", lines=[line], x_marks=_marks([0.0, end]), x_range=(0, end), **shape
    )


def legend(chart: Chart) -> list[tuple[str, str]]:
    """(name, colour) of every line, where there are several."""
    return [(line.name, chart.colour(line)) for line in chart.lines] if len(chart.lines) > 1 else []


def _point(version: Version, figure: Figure | None, *, band: bool = True) -> Point:
    if figure is None:
        raise ValueError(f"model {version.model} has no figure to draw")
    told = [f"model {version.model}"]
    if not version.promotions:
        told.append(version.outcome or "never served")
    if not band and figure.low is not None and figure.high is not None:
        told.append(f"{figure.low:.3f} to {figure.high:.3f}")
    return Point(
        version.labels or 0,
        figure.mean,
        figure.low if band else None,
        figure.high if band else None,
        note=", ".join(told),
        hollow=not version.promotions,
    )


def _marks(values: Sequence[float]) -> list[float]:
    """Numbers of an axis: the values themselves where they are few and apart, else round ones between them."""
    own, low, high = sorted(set(values)), min(values), max(values)
    if 2 < len(own) <= 8 and min(b - a for a, b in pairwise(own)) >= (high - low) / 12:
        return own
    return [each for each in ticks(low, high) if low <= each <= high] or [low]
