"""A round's progress on its way to the pool, and a person's wish to end it on its way back."""

import logging
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import OperationalError

from maskloop_learner.pool.database import reason_of
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Round

log = logging.getLogger(__name__)
Report = Callable[[dict[str, Any]], None]


class Reporter:
    """Carries progress to the pool, and a cancellation from it, at most once a second."""

    def __init__(self, *, pool: Pool, round_id: int, report: Report, should_stop: Callable[[], bool]) -> None:
        self._pool, self._round_id = pool, round_id
        self._report, self._should_stop = report, should_stop
        self._next, self._cancelled = 0.0, False
        self._doing = ""

    def progress(self, state: dict[str, Any]) -> None:
        """Pass `state` on; it also says whether somebody ended the round meanwhile."""
        self._report(state)
        if time.monotonic() < self._next and state["step"] < state["steps"]:
            return
        self._next = time.monotonic() + 1.0
        try:
            with self._pool.write() as session:
                row = session.get_one(Round, self._round_id)
                row.progress = state
                self._cancelled = row.state == "cancelled"
        except OperationalError as error:
            # The training itself needs no database; only the show of its progress pauses.
            log.warning("round %d: the progress could not be saved: %s", self._round_id, reason_of(error))

    def tick(self, what: str, done: int, of: int) -> None:
        """Say that the work after the last step gets on. Raises TrainingCancelled when it should end."""
        from maskloop_learner.train.loop import TrainingCancelled

        if self.stopped():
            raise TrainingCancelled(f"cancelled during {what}, {done} of {of} images")
        if what != self._doing:
            log.info("round %d: %s on %d images", self._round_id, what, of)
            self._doing = what

    def stopped(self) -> bool:
        """Whether the training should end now."""
        return self._cancelled or self._should_stop()
