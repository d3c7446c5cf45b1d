"""Where everything of a line chart with bands goes, in pixels, whatever it is drawn with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

WIDTH, HEIGHT = 860, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 44, 56
"""Margins; the names of the lines stand at the right."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7b4ea3")
"""Told apart by the colour-blind too (Okabe and Ito 2008), on white and on black."""
BASELINE_COLOUR = "#7d8794"
ROW = 24
"""Height of a name at the right."""
MOST_OWN_TICKS = 10
"""Distinct values of x that are all marked; of more, round numbers are."""
NEARLY = 1e-9
"""Values that differ by less, for their size, are one: there is no axis between them."""


@dataclass(frozen=True)
class Point:
    """A value with its band, where there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    """Said of it when one points at it, after its figures."""
    hollow: bool = False
    """A ring instead of a dot."""


@dataclass(frozen=True)
class Line:
    """One line. A baseline is grey and dashed."""

    name: str
    points: Sequence[Point]
    baseline: bool = False
    dots: bool = True
    """Whether its points are marked."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines over one pair of axes, at least one point in all."""

    title: str
    x_title: str
    y_title: str
    lines: Sequence[Line]
    levels: Sequence[float] = field(default_factory=tuple)
    """Heights with a dotted line across."""
    x_marks: Sequence[float] = field(default_factory=tuple)
    """Numbers on the axis below; empty: chosen."""
    x_range: tuple[float, float] | None = None
    """Where the axis below begins and ends; None: with the points."""
    width: int = WIDTH
    """In SVG's pixels, which a page may scale."""
    height: int = HEIGHT
    names: bool = True
    """Whether the lines' names stand at the right; without them the page says which colour is which."""

    @property
    def right(self) -> int:
        """Where the axes end, from the left."""
        return self.width - (RIGHT if self.names else LEFT // 3)

    @property
    def top(self) -> int:
        """Where the axes begin, from above: without a title, at once."""
        return TOP if self.title else TOP // 3

    def colour(self, line: Line) -> str:
        """Hexadecimal, by the line's place among those that are no baseline."""
        if line.baseline:
            return BASELINE_COLOUR
        return COLOURS[[each for each in self.lines if not each.baseline].index(line) % len(COLOURS)]

    def named(self) -> list[tuple[Line, float]]:
        """Lines with a point, and the height in pixels of each one's name: by its end, without two in one place."""
        shown = sorted((line for line in self.lines if line.points), key=lambda line: -line.points[-1].y)
        heights: list[float] = []
        for line in shown:
            wanted = self.place(line.points[-1].x, line.points[-1].y)[1]
            heights.append(max(wanted, heights[-1] + ROW) if heights else wanted)
        lowest = float(self.height - BOTTOM)
        for at in reversed(range(len(heights))):
            heights[at] = min(heights[at], lowest)
            lowest = heights[at] - ROW
        return list(zip(shown, heights, strict=True))

    @property
    def painted(self) -> list[Line]:
        """Lines in the order in which they are drawn: a baseline last, the others show between its dashes."""
        return sorted(self.lines, key=lambda line: line.baseline)

    @cached_property
    def x_ticks(self) -> list[float]:
        """The budgets themselves where they are few, else the round numbers between the first and the last."""
        if self.x_marks:
            return list(self.x_marks)
        own = sorted({point.x for line in self.lines for point in line.points})
        if len(own) <= MOST_OWN_TICKS:
            return own
        return [tick for tick in ticks(own[0], own[-1]) if own[0] <= tick <= own[-1]]

    @cached_property
    def y_ticks(self) -> list[float]:
        """Round numbers that hold all values and bands between them."""
        values = [v for line in self.lines for p in line.points for v in (p.y, p.low, p.high) if v is not None]
        return ticks(min([*values, *self.levels]), max([*values, *self.levels]))

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Pixels from the left upper corner."""
        (low, high), bounds = self._span, self.y_ticks
        across = (x - low) / (high - low) if high > low else 0.5
        up = (y - bounds[0]) / (bounds[-1] - bounds[0])
        base = self.height - BOTTOM
        return LEFT + across * (self.right - LEFT), base - up * (base - self.top)

    @cached_property
    def _span(self) -> tuple[float, float]:
        xs = [point.x for line in self.lines for point in line.points]
        return self.x_range or (min(xs), max(xs))

    def outline(self, line: Line) -> list[tuple[float, float]]:
        """Corners of a line's band in pixels; none where a point has no band."""
        banded = [(p.x, p.low, p.high) for p in line.points if p.low is not None and p.high is not None]
        if len(banded) < 2:
            return []
        return [self.place(x, high) for x, _, high in banded] + [self.place(x, low) for x, low, _ in reversed(banded)]


def ticks(low: float, high: float, *, count: int = 6) -> list[float]:
    """About `count` round numbers at even steps, the first at `low` or below and the last at `high` or above.

    Raises ValueError for bounds that are not finite or the wrong way round.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"an axis needs finite bounds, the lower first, got {low!r} and {high!r}")
    largest = max(1.0, abs(low), abs(high))
    span = high - low if high - low > NEARLY * largest else largest
    rough = span / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * f for f in (1, 2, 2.5, 5, 10) if power * f >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, max(last, first + 1) + 1)]


def number(value: float) -> str:
    """As short as can be: 0.55, 40."""
    return f"{value:.6g}"
