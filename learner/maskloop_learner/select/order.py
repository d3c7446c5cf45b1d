"""Serving scores: the numbers by which Label Studio orders tasks, the lowest first."""

import math

DIGITS = 9
"""Decimals of a serving score outside a batch."""


def plain_score(uncertainty: float) -> float:
    """Serving score of a task outside the open batch: 1 - uncertainty, 0..1, so that the most uncertain comes first.

    uncertainty: mean predictive entropy, 0..1. Raises ValueError for one that is no finite number: as a null it would
    be served before all others.
    """
    if not math.isfinite(uncertainty):
        raise ValueError(f"an uncertainty must be a finite number, got {uncertainty!r}")
    return min(1.0, max(0.0, round(1.0 - uncertainty, DIGITS)))


def batch_score(position: int, size: int) -> float:
    """Serving score of a batch's member: -size for the first to -1 for the last, below every `plain_score`.

    position: from 1. Whole numbers: they pass through JSON and any database unchanged, and differ by 1 however large
    the batch. Raises ValueError for a position outside the batch.
    """
    if not 1 <= position <= size:
        raise ValueError(f"position must be in 1..{size}, got {position!r}")
    return float(position - size - 1)
