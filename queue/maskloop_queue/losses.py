"""The losses of a training, thinned: enough for a curve, little enough to be written every second."""

from collections.abc import Sequence

POINTS = 100
"""At most, about."""
DIGITS = 5


class Losses:
    """Means over windows of equally many steps. A step that comes twice, after a resumed training, counts once."""

    def __init__(self) -> None:
        self._done: list[list[float]] = []
        self._window: list[float] = []
        self._last = 0

    @classmethod
    def before(cls, step: int, points: Sequence[Sequence[float]]) -> "Losses":
        """Go on from `points` that were kept earlier, with those of steps before `step`."""
        found = cls()
        found._done = [[int(at), loss] for at, loss in points if at < step]
        found._last = int(found._done[-1][0]) if found._done else 0
        return found

    def add(self, step: int, steps: int, loss: float) -> None:
        """Take in the loss of a step, 1..steps."""
        if step <= self._last:
            return
        self._last = step
        self._window.append(loss)
        if step % max(1, -(-steps // POINTS)) == 0 or step == steps:
            self._done.append([step, self._mean()])
            self._window = []

    @property
    def points(self) -> list[list[float]]:
        """[step, mean loss since the pair before], the first steps first, those of an unfinished window included."""
        return [*self._done, [self._last, self._mean()]] if self._window else list(self._done)

    def _mean(self) -> float:
        return float(f"{sum(self._window) / len(self._window):.{DIGITS}g}")
