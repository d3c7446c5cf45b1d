"""A chart as PNG, for slides and papers: the same places and colours as its SVG, on white."""

import io
import math
from itertools import pairwise

from PIL import Image as Pillow
from PIL import ImageColor, ImageDraw, ImageFont

from maskloop_learner.select.layout import BOTTOM, LEFT, Chart, Line, number

FINE = 4
"""Everything is drawn this many times larger and then halved: smooth lines, and twice the SVG's size."""
SHRINK = 2
INK, DIM, FAINT = "#14181f", "#525c6a", "#e3e7ec"
DASH, SPACE = 7, 5
BAND_OPACITY = 36
"""Of 255."""


def draw_png(chart: Chart) -> bytes:
    """Twice the chart's size: 1720 x 880 pixels where it names none. Raises ValueError for a chart without a point."""
    if not any(line.points for line in chart.lines):
        raise ValueError("a chart needs at least one point")
    picture = Pillow.new("RGB", (chart.width * FINE, chart.height * FINE), "white")
    _draw_axes(picture, chart)
    for line in chart.lines:
        if corners := chart.outline(line):
            veil = Pillow.new("L", picture.size)
            ImageDraw.Draw(veil).polygon([_at(*corner) for corner in corners], fill=BAND_OPACITY)
            picture.paste(Pillow.new("RGB", picture.size, chart.colour(line)), mask=veil)
    pen = ImageDraw.Draw(picture)
    for line in chart.painted:
        _draw_line(pen, chart, line)
    for line, height in chart.named() if chart.names else ():
        x = chart.right + 14
        pen.rounded_rectangle((*_at(x, height - 5), *_at(x + 12, height + 7)), 2 * FINE, fill=chart.colour(line))
        _write(pen, (x + 18, height + 1), line.name, anchor="lm")
    buffer = io.BytesIO()
    picture.resize((chart.width * FINE // SHRINK, chart.height * FINE // SHRINK), Pillow.Resampling.LANCZOS).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def _draw_axes(picture: Pillow.Image, chart: Chart) -> None:
    pen, right, base = ImageDraw.Draw(picture), chart.right, chart.height - BOTTOM
    for value in chart.y_ticks:
        y = chart.place(chart.x_ticks[0], value)[1]
        pen.line((*_at(LEFT, y), *_at(right, y)), fill=FAINT, width=FINE)
        _write(pen, (LEFT - 8, y), number(value), fill=DIM, anchor="rm")
    for value in chart.x_ticks:
        _write(pen, (chart.place(value, chart.y_ticks[0])[0], base + 10), number(value), fill=DIM, anchor="ma")
    for value in chart.levels:
        y = chart.place(chart.x_ticks[0], value)[1]
        _dash(pen, (LEFT, y), (right, y), fill=DIM, width=1, dash=2, space=5)
    _write(pen, (LEFT, 10), chart.title, size=17)
    _write(pen, ((LEFT + right) / 2, chart.height - 8), chart.x_title, anchor="mb")
    side = Pillow.new("RGB", ((base - chart.top) * FINE, 22 * FINE), "white")
    _write(ImageDraw.Draw(side), ((base - chart.top) / 2, 11), chart.y_title, anchor="mm")
    picture.paste(side.rotate(90, expand=True), _at(2, chart.top))


def _draw_line(pen: ImageDraw.ImageDraw, chart: Chart, line: Line) -> None:
    colour, places = chart.colour(line), [chart.place(p.x, p.y) for p in line.points]
    for start, end in pairwise(places):
        if line.baseline:
            _dash(pen, start, end, fill=colour, width=2.5, dash=DASH, space=SPACE)
        else:
            pen.line((*_at(*start), *_at(*end)), fill=colour, width=round(2.5 * FINE))
    for point, (x, y) in zip(line.points, places, strict=True) if line.dots else ():
        inside = "white" if point.hollow else ImageColor.getrgb(colour)
        pen.ellipse((*_at(x - 4, y - 4), *_at(x + 4, y + 4)), fill=inside, outline=colour, width=round(1.5 * FINE))


def _dash(
    pen: ImageDraw.ImageDraw,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    fill: str,
    width: float,
    dash: float,
    space: float,
) -> None:
    length = math.dist(start, end)
    at = 0.0
    while at < length:
        ends = [
            tuple(a + (b - a) * share for a, b in zip(start, end, strict=True))
            for share in (at / length, min(1.0, (at + dash) / length))
        ]
        pen.line((*_at(*ends[0]), *_at(*ends[1])), fill=fill, width=round(width * FINE))
        at += dash + space


def _write(
    pen: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    *,
    size: int = 14,
    fill: str = INK,
    anchor: str = "la",
) -> None:
    pen.text(_at(*at), text, fill=fill, font=ImageFont.load_default(size * FINE), anchor=anchor)


def _at(x: float, y: float) -> tuple[int, int]:
    return round(x * FINE), round(y * FINE)
