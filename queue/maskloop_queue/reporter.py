"""A round's progress on its way to the pool, and on its way back whether the round is to be gone on with."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import OperationalError

from maskloop_learner.pool.database import reason_of
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Round, utcnow
from maskloop_queue.lease import held
from maskloop_queue.losses import Losses

log = logging.getLogger(__name__)
Report = Callable[[dict[str, Any]], None]
LOOK_EVERY = 1.0
"""Seconds between two looks at the pool."""


class Reporter:
    """Carries progress to the pool and renews the round's lease there, once a second."""

    def __init__(
        self,
        *,
        pool: Pool,
        round_id: int,
        holder: str,
        lease: timedelta,
        report: Report,
        should_stop: Callable[[], bool],
        give_way: Callable[[], None] = lambda: None,
    ) -> None:
        """`give_way` is called between two pieces of work, and may take its time."""
        self._pool, self._round_id = pool, round_id
        self._holder, self._lease = holder, lease
        self._report, self._should_stop, self._give_way = report, should_stop, give_way
        self._next, self._over = 0.0, False
        self._doing = ""
        self._state: dict[str, Any] = {}
        self._losses: Losses | None = None

    def progress(self, state: dict[str, Any]) -> None:
        """Pass `state` on: {"step", "steps", "loss", "eta"}. The pool gets the losses so far with it, as "losses"."""
        self._report(state)
        if self._losses is None:
            self._losses = self._find_losses(state["step"])
        self._losses.add(state["step"], state["steps"], state["loss"])
        # Whichever look comes next takes it along: there are far more looks between steps than after one.
        self._state = state | {"losses": self._losses.points}
        if time.monotonic() >= self._next or state["step"] >= state["steps"]:
            self._look()

    def tick(self, what: str, done: int, of: int) -> None:
        """Say that the work after the last step gets on. Raises TrainingCancelled when it should end."""
        from maskloop_learner.train.loop import TrainingCancelled

        if self.stopped():
            raise TrainingCancelled(f"cancelled during {what}, {done} of {of} images")
        if what != self._doing:
            log.info("round %d: %s on %d images", self._round_id, what, of)
            self._doing = what

    def stopped(self) -> bool:
        """Whether the training should end now: a person ended the round, another took it, or the worker stops."""
        self._give_way()
        if time.monotonic() >= self._next:
            self._look()
        return self._over or self._should_stop()

    def _find_losses(self, step: int) -> Losses:
        """What a process before this one has left of the steps before `step`."""
        try:
            with self._pool.read() as session:
                kept = session.get_one(Round, self._round_id).progress
        except OperationalError as error:
            log.warning("round %d: its curve of losses begins anew: %s", self._round_id, reason_of(error))
            return Losses()
        return Losses.before(step, kept.get("losses", []))

    def _look(self) -> None:
        self._next = time.monotonic() + LOOK_EVERY
        try:
            with self._pool.write() as session:
                row = held(session, self._round_id, self._holder)
                self._over = row is None
                if row is not None:
                    row.held_until = utcnow() + self._lease
                    row.progress = self._state or row.progress
        except OperationalError as error:
            # The training itself needs no database: whether the round still is ours is seen before it is published.
            said = reason_of(error)
            log.warning("round %d: the pool cannot be written, the training goes on: %s", self._round_id, said)
        if self._over:
            log.info("round %d was ended, or another process has taken it: this one stops", self._round_id)
