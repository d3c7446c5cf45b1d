"""What is due by the clock: worked out anew from moments in the pool, by any process, after any pause.

A clock may be set back, and a moment then lies ahead though it has passed. One that lies further ahead than it can
counts as past: at worst something happens early, never never.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta


def has_come(moment: datetime, *, now: datetime, longest: timedelta) -> bool:
    """Whether a moment has come that was written at most `longest` before it."""
    return moment <= now or moment > now + longest


def labels_are_due(
    arrivals: Sequence[datetime], *, now: datetime, threshold: int, quiet: timedelta, patience: timedelta
) -> bool:
    """Whether so many new labels start a training: `threshold` (at least 1) are there, and none came for `quiet`.

    `arrivals` says when each came. A steady stream puts the training off for `patience` at most, counted from the label
    that made up the threshold.
    """
    if threshold < 1:
        raise ValueError(f"threshold must be at least 1, got {threshold!r}")
    if len(arrivals) < threshold:
        return False
    ordered = sorted(arrivals)
    at_rest, at_last = ordered[-1] + quiet, ordered[threshold - 1] + patience
    return has_come(at_rest, now=now, longest=quiet) or has_come(at_last, now=now, longest=patience)


def latest_past(moments: Iterable[datetime], *, now: datetime) -> datetime | None:
    """The last of the moments that is not ahead; None when all are."""
    return max((moment for moment in moments if moment <= now), default=None)
