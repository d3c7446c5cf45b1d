"""Serving scores: the numbers by which Label Studio orders tasks, the lowest first.

All lie in 0..1: Label Studio 1.23 leaves predictions out of a bulk import, and says nothing, when their score does not.
"""

import math

DIGITS = 9
"""Decimals of a serving score outside a batch."""
LEAST = 5e-10
"""The lowest of these, of an uncertainty of 1: below it are the members of the open batch alone."""
MOST_MEMBERS = 499_999
STEP = 1e15
"""A batch's scores lie 1 / STEP apart: so many that the last one stays below LEAST."""


def plain_score(uncertainty: float) -> float:
    """Serving score of a task outside the open batch: 1 - uncertainty, so that the most uncertain comes first.

    uncertainty: mean predictive entropy, 0..1; returns LEAST..1, equal only where nine decimals are equal. Raises
    ValueError for one that is no finite number: as a null it would be served before all others.
    """
    if not math.isfinite(uncertainty):
        raise ValueError(f"an uncertainty must be a finite number, got {uncertainty!r}")
    return min(1.0, max(LEAST, round(1.0 - uncertainty, DIGITS)))


def batch_score(position: int) -> float:
    """Serving score of the batch's member at a position from 1: 1e-15 for the first, 2e-15 for the second.

    Below every `plain_score`. Raises ValueError for a position that no batch has.
    """
    if not 1 <= position <= MOST_MEMBERS:
        raise ValueError(f"position must be in 1..{MOST_MEMBERS}, got {position!r}")
    return position / STEP
