"""A line chart with bands as SVG that follows a page's light and dark."""

from html import escape

from maskloop_learner.select.layout import BOTTOM, LEFT, Chart, Line, Point, number

__all__ = ["Chart", "Line", "Point", "draw_svg"]


def draw_svg(chart: Chart) -> str:
    """The chart as an <svg> element for a page; text and axes are of the page's colour. Raises ValueError for none."""
    if not any(line.points for line in chart.lines):
        raise ValueError("a chart needs at least one point")
    parts = [
        f'<svg viewBox="0 0 {chart.width} {chart.height}" role="img" aria-label="{escape(_tell(chart))}" '
        'font-family="system-ui, sans-serif" font-size="14" fill="currentColor">',
        f'<text x="{LEFT}" y="22" font-size="17">{escape(chart.title)}</text>' if chart.title else "",
        *_axes(chart),
        *(_band(chart, line) for line in chart.lines),
        *(_line(chart, line) for line in chart.painted),
        *(_name(chart, line, height) for line, height in chart.named() if chart.names),
        "</svg>",
    ]
    return "".join(parts)


def _tell(chart: Chart) -> str:
    """What the chart shows, for those who do not see it."""
    told = "; ".join(f"{line.name} ends at {line.points[-1].y:.3f}" for line in chart.lines if line.points)
    return f"{chart.title or f'{chart.y_title} over {chart.x_title}'}: {told}"


def _axes(chart: Chart) -> list[str]:
    found, right, base = [], chart.right, chart.height - BOTTOM
    for value in chart.y_ticks:
        y = chart.place(chart.x_ticks[0], value)[1]
        found.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="currentColor" opacity=".15"/>')
        found.append(f'<text x="{LEFT - 8}" y="{y + 5:.1f}" text-anchor="end" opacity=".75">{number(value)}</text>')
    for value in chart.x_ticks:
        x = chart.place(value, chart.y_ticks[0])[0]
        found.append(f'<text x="{x:.1f}" y="{base + 22}" text-anchor="middle" opacity=".75">{number(value)}</text>')
    for value in chart.levels:
        y = chart.place(chart.x_ticks[0], value)[1]
        found.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="currentColor" stroke-dasharray="2 5" opacity=".6"/>')
    middle = (chart.top + base) / 2
    found.append(
        f'<text x="{(LEFT + right) / 2}" y="{chart.height - 10}" text-anchor="middle">{escape(chart.x_title)}</text>'
    )
    found.append(
        f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{escape(chart.y_title)}</text>'
    )
    return found


def _band(chart: Chart, line: Line) -> str:
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in chart.outline(line))
    return f'<polygon points="{corners}" fill="{chart.colour(line)}" opacity=".14"/>' if corners else ""


def _line(chart: Chart, line: Line) -> str:
    if not line.points:
        return ""
    colour = chart.colour(line)
    dash = ' stroke-dasharray="7 5"' if line.baseline else ""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (chart.place(p.x, p.y) for p in line.points))
    dots = []
    for p in line.points if line.dots else ():
        x, y = chart.place(p.x, p.y)
        told = f"{line.name}, {number(p.x)}: {p.y:.3f}"
        if p.low is not None and p.high is not None:
            told += f" ({p.low:.3f} to {p.high:.3f})"
        told += f", {p.note}" if p.note else ""
        look = f'fill="none" stroke="{colour}" stroke-width="1.5"' if p.hollow else f'fill="{colour}"'
        dots.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" {look}><title>{escape(told)}</title></circle>')
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"{dash}/>{"".join(dots)}'


def _name(chart: Chart, line: Line, height: float) -> str:
    x = chart.right + 14
    return (
        f'<rect x="{x}" y="{height - 5:.1f}" width="12" height="12" rx="2" fill="{chart.colour(line)}"/>'
        f'<text x="{x + 18}" y="{height + 6:.1f}">{escape(line.name)}</text>'
    )
