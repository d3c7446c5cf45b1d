"""What `sync` does on the side, so that an installation runs for months: room on the disk, clean-up, alarms."""

import logging
import time
from collections.abc import Callable

import redis
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from maskloop_backend.sync.alarms import Alarms, Trouble
from maskloop_backend.sync.alerting import Alerter
from maskloop_learner.disk import Room, measure_room
from maskloop_learner.pool.garbage import SLICES, sweep_store
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.retention import drop_old_predictions, drop_stray_embeddings
from maskloop_learner.pool.schema import Cursor, Project
from maskloop_learner.pool.store import StoreError
from maskloop_learner.settings import Settings
from maskloop_queue.leftovers import sweep_rounds
from maskloop_queue.queues import pending_jobs
from maskloop_queue.valkey import ValkeyError

log = logging.getLogger(__name__)

LOOK_EVERY = 10.0
ROWS_AT_ONCE = 5000
FORGET_EVERY = 600.0
SLICE_SECONDS = 24 * 3600 // len(SLICES)
"""A slice of the store is looked through in so many seconds, all of it in a day."""
HURRY = 60
"""The same while the disk is nearly full."""
SWEPT = "store-slice"
"""Name of the cursor that says which slice was the last one."""
MARGIN = 1.1
"""Room must be so many times what is wanted before trainings go on, or they would start and stop by turns."""


class Upkeep:
    """Looks after one installation, a little at each turn of the loop. Its errors are logged and end nothing."""

    def __init__(self, *, pool: Pool, settings: Settings, conn: redis.Redis, beat: Callable[[], None]) -> None:
        self.pool, self.settings, self.conn, self.beat = pool, settings, conn, beat
        self.alarms = Alarms(pool=pool, minutes=settings.alert_minutes)
        self.alerters = Alerter.of(pool, settings)
        self.room: Room = measure_room(settings)
        self.trainings_wait = self.room.is_low
        self._look_at = self._forget_at = 0.0
        self.now: Callable[[], float] = time.time

    def step(self) -> None:
        """Do what is due."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_EVERY
        for work in (self._look_at_disk, self._look_for_trouble, self._forget, self._sweep, self._tell):
            self.beat()
            try:
                work()
            except (SQLAlchemyError, StoreError, OSError) as error:
                log.warning("upkeep: %s", getattr(error, "orig", None) or error)

    def _look_at_disk(self) -> None:
        before, self.room = self.trainings_wait, measure_room(self.settings)
        enough = self.room.free >= self.room.wanted * MARGIN
        self.trainings_wait = self.room.is_low or (before and not enough)
        self.alarms.set("disk.low", str(self.room.path), str(self.room) if self.trainings_wait else None)

    def _look_for_trouble(self) -> None:
        with self.pool.read() as session:
            projects = session.scalars(select(Project)).all()
        for project in projects:
            trouble = Trouble(project.sync_error, project.id) if project.sync_error else None
            self.alarms.watch("sync.stuck", str(project.ls_id), trouble)
        try:
            jobs = pending_jobs(self.conn)
        except (redis.RedisError, ValkeyError) as error:
            self.alarms.watch("queue.down", "redis", Trouble(f"Redis does not answer: {error}"))
            return
        self.alarms.watch("queue.down", "redis", None)
        for name, counts in jobs.items():
            waiting = counts["queued"] + counts["started"]
            what = f"{waiting} jobs wait in queue {name!r} and no worker takes them" if waiting else None
            self.alarms.watch("worker.missing", name, Trouble(what) if what and not counts["workers"] else None)

    def _forget(self) -> None:
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + FORGET_EVERY
        drop_old_predictions(self.pool, days=self.settings.keep_predictions_days, limit=ROWS_AT_ONCE)
        drop_stray_embeddings(self.pool, limit=ROWS_AT_ONCE)
        sweep_rounds(self.pool, self.settings.home)

    def _sweep(self) -> None:
        period = int(self.now()) // (HURRY if self.trainings_wait else SLICE_SECONDS)
        with self.pool.read() as session:
            last = session.get(Cursor, SWEPT)
        if last is not None and last.position == period:
            return
        swept = sweep_store(self.pool, prefix=SLICES[period % len(SLICES)], beat=self.beat)
        if swept.held:
            return
        if swept.count:
            log.info("%d blobs, to which nothing refers, are removed (%.1f MB)", swept.count, swept.bytes / 1e6)
        with self.pool.write() as session:
            session.merge(Cursor(name=SWEPT, position=period))

    def _tell(self) -> None:
        for alerter in self.alerters:
            alerter.step()
