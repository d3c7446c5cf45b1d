"""The loop of the `sync` process: compares what is with what should be, project by project, for ever."""

import fcntl
import logging
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType

import redis
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, OperationalError

from maskloop_backend.clients import Clients
from maskloop_backend.credentials import CredentialsError
from maskloop_backend.heatmaps import HeatMaps
from maskloop_backend.labelstudio.client import LabelStudio, LabelStudioError
from maskloop_backend.labelstudio.tokens import TokenError
from maskloop_backend.sync import work
from maskloop_backend.sync.comparing import compare_labels
from maskloop_backend.sync.config import ConfigError, follow_config
from maskloop_backend.sync.display import show_uncertainties
from maskloop_backend.sync.fairness import enqueue_fairly
from maskloop_backend.sync.ordering import keep_order
from maskloop_backend.sync.pull import Puller
from maskloop_backend.sync.push import Pusher
from maskloop_backend.sync.retention import drop_old_predictions
from maskloop_backend.sync.returning import switch_back
from maskloop_backend.sync.tabs import follow_batches
from maskloop_backend.sync.unmodelled import Unmodelled
from maskloop_backend.sync.upkeep import Upkeep
from maskloop_learner.pool.database import reason_of
from maskloop_learner.pool.events import record
from maskloop_learner.pool.members import close_finished
from maskloop_learner.pool.merging import MergeError
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project, utcnow
from maskloop_learner.pool.sole import SYNC, Turn, TurnLost
from maskloop_learner.pool.store import StoreError
from maskloop_learner.prompts.template import TemplateError
from maskloop_learner.settings import Settings
from maskloop_learner.train.fallback import look_after
from maskloop_queue import janitor
from maskloop_queue.connection import connect
from maskloop_queue.processes import Beat
from maskloop_queue.valkey import ValkeyError
from maskloop_queue.wake import wait_for_wake

log = logging.getLogger(__name__)

BUSY_PAUSE = 1.0
"""Seconds between two steps while something is under way."""
LOOK_PAUSE = 1.0
RETRY_AFTER = 3.0
"""Seconds until the next look when Label Studio failed: it is mostly starting."""
CLEAN_EVERY = 5.0
RETENTION_EVERY = 60.0
STAND_BY = 2.0
"""Seconds between two questions whether it is this process's turn."""
DATABASE_PATIENCE = 120.0
"""Seconds a process waits at its start for a database server that is not up yet."""
CHAMPION_EVERY = 5.0
"""Seconds between two looks whether the champion's weights are there."""
VERIFY_EVERY = 600.0
"""Seconds between two readings of their bytes. A worker that loads them reads them anyway."""


class AlreadyRunning(RuntimeError):
    """Another sync process serves this installation."""


class Stop(BaseException):
    """Raised by the signal handler: ends whatever the loop waits for."""


def run_sync(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; with a PostgreSQL pool wait as long as a sync process of another host works.

    Raises AlreadyRunning when another process of this home folder holds the lock.
    """
    beat = Beat.of_process()
    with _only_one(settings.home):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        try:
            with (
                closing(Pool.open(settings, patience=DATABASE_PATIENCE, waiting=beat.touch)) as pool,
                Turn(pool.engine, SYNC) as turn,
            ):
                pool.store.sweep()
                while True:
                    _await(turn, beat)
                    try:
                        Sync(pool=pool, settings=settings, turn=turn).run()
                    except TurnLost as lost:
                        log.warning("sync pauses: %s", lost)
        except Stop:
            log.info("sync stops")


def _await(turn: Turn, beat: Beat) -> None:
    said = ""
    while True:
        beat.touch()
        try:
            if turn.take():
                return
            now = "a sync process on another host is at work: this one stands by"
        except OperationalError as error:
            now = f"waiting for the pool's database: {reason_of(error)}"
        if now != said:
            log.warning("%s", now)
            said = now
        time.sleep(STAND_BY)


class Sync:
    """One installation's loop."""

    def __init__(self, *, pool: Pool, settings: Settings, turn: Turn | None = None) -> None:
        self.pool, self.settings = pool, settings
        self._turn = turn
        self.conn = connect(settings)
        self.beat = Beat.of_process()
        self.clients = Clients(settings.home)
        self._look_at: dict[int, float] = {}
        self._looked_at: dict[int, float] = {}
        self._retention_at: dict[int, float] = {}
        self._champion_at: dict[int, float] = {}
        self._verify_at: dict[int, float] = {}
        self._clean_at = 0.0
        self._fetching = False
        self.upkeep = Upkeep(pool=pool, settings=settings, conn=self.conn, beat=self.beat.touch)

    def run(self) -> None:
        """Look, work, wait; for ever. Raises TurnLost when another process may be at work instead."""
        woken: set[int] = set()
        while True:
            self.beat.touch()
            busy = False
            if self._turn is not None:
                self._turn.check()
            self._fetching = False
            projects = self._projects()
            for project in projects:
                busy |= self.step(project, woken=project.ls_id in woken)
            self._clean_queue()
            self.upkeep.step()
            pause = 0.0 if self._fetching else BUSY_PAUSE
            woken = self._wait(pause if busy else min(5.0, self.settings.sync_interval))

    def _projects(self) -> Sequence[Project]:
        try:
            with self.pool.read() as session:
                return session.scalars(select(Project).order_by(Project.id)).all()
        except DBAPIError as error:
            log.error("the pool is busy or broken: %s", reason_of(error))
            return []

    def step(self, project: Project, *, woken: bool = False) -> bool:
        """Bring one project a step further; return whether more is to be done right away."""
        busy = False
        if woken:
            # A flood of webhooks makes for one look a second, not for one each.
            soonest = self._looked_at.get(project.id, 0.0) + LOOK_PAUSE
            self._look_at[project.id] = min(self._look_at.get(project.id, 0.0), soonest)
        self._look_after_champion(project)
        try:
            look = time.monotonic() >= self._look_at.get(project.id, 0.0)
            busy = self._exchange(project, look=look) or (woken and not look)
        except (LabelStudioError, TokenError, TemplateError, StoreError, CredentialsError) as error:
            self._look_at[project.id] = time.monotonic() + min(RETRY_AFTER, self.settings.sync_interval)
            self._note_error(project, str(error))
        except OSError as error:
            # A disk that is full: nothing is lost, all of it is looked at again.
            self._look_at[project.id] = time.monotonic() + self.settings.sync_interval
            self._note_error(project, f"the store or the home folder cannot be used: {error}")
        except DBAPIError as error:
            # Not only of an outage: one project's odd data must not stop the others.
            log.error("project %d: the pool is busy or broken: %s", project.ls_id, reason_of(error))
        try:
            busy |= compare_labels(self.pool, project.id, beat=self.beat.touch)
        except (StoreError, OSError) as error:
            log.warning("project %d: labels cannot be compared with what was shown: %s", project.ls_id, error)
        except DBAPIError as error:
            log.error("project %d: the pool is busy or broken: %s", project.ls_id, reason_of(error))
        try:
            # Learning goes on when Label Studio is away, and serving when Redis is.
            missing = enqueue_fairly(self.pool, self.conn, project.id)
            # What is never served is drawn when nothing else is left to draw.
            missing = missing or work.enqueue_shadow(self.pool, self.conn, project.id, self.settings)
            busy |= missing > 0
            if not self.upkeep.trainings_wait:
                busy |= work.enqueue_rounds(self.pool, self.conn, project.id, self.settings)
            # Last: a round is opened even while Redis is away.
            busy |= not missing and work.enqueue_unembedded(self.pool, self.conn, project.id, self.settings) > 0
        except (redis.RedisError, ValkeyError) as error:
            log.warning("project %d: nothing can be enqueued: %s", project.ls_id, error)
        except (TemplateError, StoreError, MergeError, OSError) as error:
            log.error("project %d: no training can be opened: %s", project.ls_id, error)
        except DBAPIError as error:
            # Not only of an outage: one project's odd data must not stop the others.
            log.error("project %d: the pool is busy or broken: %s", project.ls_id, reason_of(error))
        return busy

    def _exchange(self, project: Project, *, look: bool) -> bool:
        client = self.clients.get(project.ls_url)
        puller = Puller(
            pool=self.pool,
            client=client,
            settings=self.settings,
            headers_for=self.clients.headers_for,
            beat=self.beat.touch,
        )
        pusher = Pusher(pool=self.pool, client=client, beat=self.beat.touch)
        if look:
            project = self._follow_config(project, client, puller)
        work.follow_prompts(self.pool, project.id)
        work.follow_grouping(self.pool, project.id)
        version = work.follow_settings(self.pool, project.id, self.settings)
        if version is not None:
            # First of all: somebody waits for a rollback.
            switch_back(self.pool, pusher, project.id, version)
        if look:
            self._looked_at[project.id] = time.monotonic()
            last = project.checked_at
            old = last is None or (utcnow() - last).total_seconds() >= self.settings.full_check_interval
            full = old or project.synced_at is None
            pulled = puller.pull(project.id, full=full)
            self._look_at[project.id] = time.monotonic() + self.settings.sync_interval
            if pulled.tasks or pulled.labels or pulled.deleted:
                log.info("project %d: %s", project.ls_id, pulled)
            open_for = timedelta(hours=self.settings.retention_hours)
            if not pusher.withdraw(project.id, version, open_for=open_for):
                self._look_at[project.id] = time.monotonic()
            if full and version:
                pusher.recheck(project.id, version)
        ordered = self._serve_batch(project, client, pusher, version, look=look)
        # A person may be waiting for what is pushed next, so images and predictions take turns.
        fetched = puller.take_images(project.id)
        # The next ones follow at once: a pause would come on top of the waiting for the network.
        self._fetching |= fetched > 0
        if version is None:
            return fetched > 0 or not ordered
        with self.pool.read() as session:
            # Counted before the push: what is scored meanwhile is not in Label Studio yet.
            unfinished = work.waiting_tasks(session, project.id, version) + work.new_images(session, project.id)
            served = session.get_one(Project, project.id).served_version
        complete = pusher.push(project.id, version)
        if look if served == version else complete and not unfinished:
            pusher.switch(project.id, version)
        if look and complete and self._show_uncertainties(client, project, version):
            self._look_at[project.id] = time.monotonic()
        # Right after a look: an annotation that is not in the pool yet may need its parent.
        if look and time.monotonic() >= self._retention_at.get(project.id, 0.0):
            self._retention_at[project.id] = time.monotonic() + RETENTION_EVERY
            drop_old_predictions(self.pool, client, project.id, self.settings)
        return fetched > 0 or not complete or not ordered

    def _serve_batch(
        self, project: Project, client: LabelStudio, pusher: Pusher, version: str | None, *, look: bool
    ) -> bool:
        """Have the open batch served in its order; return whether it is."""
        if (number := close_finished(self.pool, project.id)) is not None:
            log.info("project %d: batch %d is closed, no image of it waits", project.ls_id, number)
        with self.pool.read() as session:
            project = session.get_one(Project, project.id)
        ordered = keep_order(self.pool, client, project, version, beat=self.beat.touch)
        if version is None:
            unmodelled = Unmodelled(pool=self.pool, client=client, pusher=pusher, beat=self.beat.touch)
            ordered &= not unmodelled.serve(project, look=look)
        follow_batches(self.pool, client, project)
        return ordered

    def _show_uncertainties(self, client: LabelStudio, project: Project, version: str) -> bool:
        def maps() -> HeatMaps:
            return HeatMaps.of(self.settings)

        return show_uncertainties(self.pool, client, project, version, maps=maps, beat=self.beat.touch)

    def _follow_config(self, project: Project, client: LabelStudio, puller: Puller) -> Project:
        try:
            if not follow_config(self.pool, client, project):
                return project
        except ConfigError as error:
            # Labels in the tags that are left still count.
            puller.trouble = f"the label config was edited and cannot be served; the former one stays: {error}"
            self._note_error(project, puller.trouble)
            return project
        with self.pool.read() as session:
            return session.get_one(Project, project.id)

    def _note_error(self, project: Project, message: str) -> None:
        if message == project.sync_error:
            return
        log.warning("project %d: %s", project.ls_id, message)
        try:
            with self.pool.write() as session:
                session.get_one(Project, project.id).sync_error = message
                record(session, "sync.failed", project_id=project.id, data={"reason": message})
        except DBAPIError as error:
            log.error("project %d: the pool is busy or broken: %s", project.ls_id, reason_of(error))

    def _look_after_champion(self, project: Project) -> None:
        now = time.monotonic()
        if now < self._champion_at.get(project.id, 0.0):
            return
        self._champion_at[project.id] = now + CHAMPION_EVERY
        thorough = now >= self._verify_at.get(project.id, 0.0)
        try:
            look_after(self.pool, project.id, self.settings, thorough=thorough)
        except (StoreError, OSError) as error:
            log.warning("project %d: the champion's weights cannot be looked at: %s", project.ls_id, error)
        except DBAPIError as error:
            log.error("project %d: the pool is busy or broken: %s", project.ls_id, reason_of(error))
        else:
            if thorough:
                self._verify_at[project.id] = now + VERIFY_EVERY

    def _clean_queue(self) -> None:
        if time.monotonic() < self._clean_at:
            return
        self._clean_at = time.monotonic() + CLEAN_EVERY
        try:
            janitor.clean(self.conn, lease=self.settings.worker_lease)
        except (redis.RedisError, ValkeyError) as error:
            log.warning("the queue cannot be cleaned: %s", error)

    def _wait(self, seconds: float) -> set[int]:
        try:
            return wait_for_wake(self.conn, seconds)
        except (redis.RedisError, ValkeyError) as error:
            log.warning("no webhooks are heard: %s", error)
            time.sleep(seconds)
            return set()


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "sync.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(f"another `maskloop sync` runs for {home}; one is enough") from error
        yield


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stop
