"""Where a job runs: the pool, the warm models and the signs of progress of the worker process around it."""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from redis import RedisError
from rq import get_current_job

from maskloop_learner.disk import measure_room
from maskloop_learner.settings import Settings, get_settings
from maskloop_queue.connection import connect
from maskloop_queue.politeness import GivingWay, somebody_waits

if TYPE_CHECKING:
    from maskloop_learner.pool.pool import Pool
    from maskloop_queue.scoring import Predictors

log = logging.getLogger(__name__)
T = TypeVar("T")
_SAVE_EVERY = 1.0
_LOG_EVERY = 5.0
_ROOM_EVERY = 5.0
_PAUSE_AFTER_ERROR = 30.0
DATABASE_PATIENCE = 120.0
"""Seconds for which a job waits for the pool's database."""
# Only a job that is still there gets its progress: a key made anew would stand in the way of the job's return.
_SAVE = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'meta', ARGV[1]) end"


class Place:
    """One worker process, as its jobs see it. Pool and models are opened when first used and kept."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_progress: Callable[[], None] = lambda: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.settings = settings
        self.on_progress = on_progress
        self._should_stop = should_stop
        self._pool: Pool | None = None
        self._predictors: Predictors | None = None
        self._giving_way: GivingWay | None = None
        self._save_at = self._log_at = self._room_at = 0.0
        self._no_room = False

    @property
    def pool(self) -> "Pool":
        """The installation's pool."""
        if self._pool is None:
            from maskloop_learner.pool.pool import Pool

            self._pool = Pool.open(self.settings, patience=DATABASE_PATIENCE, waiting=self.progress)
        return self._pool

    @property
    def predictors(self) -> "Predictors":
        """The models that this process keeps warm."""
        if self._predictors is None:
            from maskloop_queue.scoring import Predictors

            self._predictors = Predictors.of(self.settings)
        return self._predictors

    def progress(self) -> None:
        """Say that the job gets on: a job that says nothing for `worker_lease` seconds is given to another worker."""
        self.on_progress()

    def outlast(self, work: Callable[[], T]) -> T:
        """Do `work`, again and again while the pool's database or store does not answer; `work` may be done twice.

        Raises what it raises, the outage too after `DATABASE_PATIENCE` seconds or when the worker is to stop.
        """
        from sqlalchemy.exc import OperationalError

        from maskloop_learner.pool.database import reason_of
        from maskloop_learner.pool.store import StoreDown

        end = time.monotonic() + DATABASE_PATIENCE
        while True:
            try:
                return work()
            except (OperationalError, StoreDown) as error:
                if time.monotonic() > end or self.should_stop():
                    raise
                said = reason_of(error) if isinstance(error, OperationalError) else error
                log.warning("waiting for the pool: %s", said)
                time.sleep(1.0)

    def should_stop(self) -> bool:
        """Whether the worker wants to end and the job should come to a point where it can go on later."""
        self.progress()
        return self._should_stop()

    def give_way(self) -> None:
        """Wait while a person waits for a prediction, within what the training's share allows."""
        if self._giving_way is None:
            look = somebody_waits(connect(self.settings, patience=0.1), self.progress)
            share = self.settings.training_share
            self._giving_way = GivingWay(waits=lambda: not self._should_stop() and look(), share=share)
        self._giving_way.pause()

    def should_stop_training(self) -> bool:
        """As `should_stop`; a training also ends, to go on later, when the disk is nearly full."""
        if time.monotonic() >= self._room_at:
            self._room_at = time.monotonic() + _ROOM_EVERY
            room = measure_room(self.settings)
            if room.is_low and not self._no_room:
                log.warning("the training stops until there is room: %s", room)
            self._no_room = room.is_low
        return self.should_stop() or self._no_room

    def report(self, progress: dict[str, Any]) -> None:
        """Say how far the job is, for instance {"step", "steps", "loss", "eta"}: into the job and the log."""
        self.progress()
        now = time.monotonic()
        job = get_current_job()
        if job is None:
            return
        if now >= self._log_at:
            self._log_at = now + _LOG_EVERY
            log.info("%s: %s", job.id, ", ".join(f"{key} {_short(value)}" for key, value in progress.items()))
        if now >= self._save_at:
            self._save_at = now + _SAVE_EVERY
            try:
                job.connection.eval(_SAVE, 1, job.key, job.serializer.dumps(progress))
            except RedisError as error:
                # The work goes on without Redis; only the show of its progress pauses.
                self._save_at = now + _PAUSE_AFTER_ERROR
                log.warning("%s: the progress could not be saved: %s", job.id, error)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_place: Place | None = None


def enter(place: Place) -> None:
    """Make `place` the one of this process; what a forked child inherited is left to its parent."""
    global _place
    _place = place


def running() -> Place:
    """The place of this process; by default that of the installation's settings, with nobody watching."""
    global _place
    if _place is None:
        _place = Place(get_settings())
    return _place
