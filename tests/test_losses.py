"""The thinned losses of a training."""

from itertools import pairwise

import pytest

from maskloop_queue.losses import POINTS, Losses


def fill(losses: Losses, steps: int, *, first: int = 1, last: int | None = None) -> Losses:
    """Losses that are the numbers of their steps."""
    for step in range(first, (last or steps) + 1):
        losses.add(step, steps, float(step))
    return losses


@pytest.mark.parametrize("steps", [1, 7, 100, 101, 2500])
def test_every_step_is_in_one_window(steps: int) -> None:
    """Few points whatever the length, the last one at the last step, and no step lost or counted twice."""
    points = fill(Losses(), steps).points
    assert len(points) <= POINTS
    assert points[-1][0] == steps
    ends = [0.0, *(end for end, _ in points)]
    total = sum(mean * (end - start) for (_, mean), (start, end) in zip(points, pairwise(ends), strict=True))
    assert total == pytest.approx(steps * (steps + 1) / 2, rel=1e-3)


def test_a_window_that_is_not_full_is_seen() -> None:
    assert fill(Losses(), 1000, last=14).points == [[10, 5.5], [14, 12.5]]


def test_a_step_that_comes_twice_counts_once() -> None:
    """As after early stopping, which tells the last step again as the end."""
    losses = fill(Losses(), 100, last=40)
    losses.add(40, 40, 9.0)
    assert losses.points[-1] == [40, 40.0]
    assert len(losses.points) == 40


def test_a_resumed_training_goes_on_with_what_was_kept() -> None:
    """It begins at its checkpoint, before where it was killed: what comes again replaces what was there."""
    whole = fill(Losses(), 1000).points
    kept = fill(Losses(), 1000, last=640).points
    again = fill(Losses.before(601, kept), 1000, first=601)
    assert again.points == whole
    assert Losses.before(1, kept).points == []
