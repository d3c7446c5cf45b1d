"""Numbers and moments as people read them; filters of the templates."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from markupsafe import Markup, escape

from maskloop_learner.pool.schema import utcnow

UNITS = ((60.0, 1.0, "second"), (3600.0, 60.0, "minute"), (86400.0, 3600.0, "hour"), (30 * 86400.0, 86400.0, "day"))


def number(value: float | int) -> str:
    """12345 -> `12,345`."""
    return f"{value:,}"


def score(value: float | None) -> str:
    """Three digits after the point, a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """0.123 -> `12.3 %`."""
    return "–" if value is None else f"{100 * value:.1f} %"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """`3 minutes ago`; the date where it is longer than a month."""
    if moment is None:
        return "never"
    seconds = max(0.0, ((now or utcnow()) - moment).total_seconds())
    for end, unit, name in UNITS:
        if seconds < end:
            count = int(seconds / unit)
            return f"{count} {name} ago" if count == 1 else f"{count} {name}s ago"
    return f"{moment:%Y-%m-%d}"


def lasting(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def moment(value: datetime) -> str:
    """`2026-01-31 14:05` in UTC."""
    return f"{value:%Y-%m-%d %H:%M}"


def plain(name: str) -> str:
    """`predictive_entropy` -> `predictive entropy`."""
    return name.replace("_", " ")


def ticks(text: str) -> Markup:
    """What stands between backticks as code; the text itself is escaped."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "score": score,
    "percent": percent,
    "ago": ago,
    "lasting": lasting,
    "moment": moment,
    "plain": plain,
    "ticks": ticks,
}
