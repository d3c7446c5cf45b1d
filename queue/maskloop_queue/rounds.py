"""The training worker's job: train on a snapshot, pass the gate, publish. Safe to run again after any death."""

import fcntl
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from maskloop_learner.disk import measure_room
from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Round, Snapshot, utcnow
from maskloop_learner.pool.snapshot import load_manifest
from maskloop_learner.settings import Settings
from maskloop_queue.fitting import train_and_publish
from maskloop_queue.plan import Plan
from maskloop_queue.reporter import Report, Reporter
from maskloop_queue.triggers import BACKOFF

log = logging.getLogger(__name__)

MAX_FAILURES = len(BACKOFF) + 1
MAX_DEATHS = 20
"""A process that is killed says nothing of its labels, so it is tried more often than one that fails."""


class RoundBusy(RuntimeError):
    """Another process on this machine is at work on the same round."""


def run(pool: Pool, round_id: int, settings: Settings, report: Report, should_stop: Callable[[], bool]) -> None:
    """Train the round's snapshot and publish the outcome. A round that has ended is left alone.

    A failure is written to the round with the time of its next try, then raised; a stop puts the round back.
    """
    from maskloop_learner.train.loop import TrainingCancelled

    plan = _begin(pool, round_id, settings)
    if plan is None:
        return
    with _hold(plan.folder):
        try:
            reporter = Reporter(pool=pool, round_id=plan.round_id, report=report, should_stop=should_stop)
            train_and_publish(pool, plan, settings, reporter)
        except TrainingCancelled:
            _put_back(pool, plan)
            return
        except Exception as error:
            if (room := measure_room(settings)).is_low:
                # Whatever it is called, this failure says nothing of the labels.
                log.warning("round %d waits for room (%s), it ended with: %s", plan.round_id, room, error)
                _put_back(pool, plan)
                return
            _note_failure(pool, plan, error)
            raise
        # Only a round that has ended needs its checkpoint no more.
        shutil.rmtree(plan.folder, ignore_errors=True)


def cancel(pool: Pool, round_id: int, *, by: str) -> bool:
    """End a round that has not ended yet; its job stops at the next step. Returns whether there was one."""
    with pool.write() as session:
        row = session.get(Round, round_id)
        if row is None or row.state not in ("queued", "running"):
            return False
        row.state, row.reason, row.ended_at = "cancelled", f"cancelled by {by}", utcnow()
        record(session, "round.cancelled", project_id=row.project_id, subject=str(round_id), data={"by": by})
        return True


def _begin(pool: Pool, round_id: int, settings: Settings) -> Plan | None:
    with pool.write() as session:
        row = session.get_one(Round, round_id)
        if row.state not in ("queued", "running"):
            log.info("round %d has ended already (%s)", round_id, row.state)
            return None
        if row.attempts - row.failures >= MAX_DEATHS:
            row.state, row.ended_at = "failed", utcnow()
            row.reason = f"gave up: the training process was killed {MAX_DEATHS} times; is there enough memory?"
            record(
                session, "round.failed", project_id=row.project_id, subject=str(round_id), data={"reason": row.reason}
            )
            return None
        row.attempts += 1
        row.state, row.retry_at, row.started_at = "running", None, row.started_at or utcnow()
        record(
            session, "round.started", project_id=row.project_id, subject=str(round_id), data={"attempt": row.attempts}
        )
        project_id, snapshot = row.project_id, session.get_one(Snapshot, row.snapshot_id)
    folder = settings.home / "training" / f"round-{round_id}"
    return Plan(round_id, project_id, snapshot.id, load_manifest(pool, snapshot), folder)


@contextmanager
def _hold(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            # The kernel frees this lock when the holder is killed, whatever Redis believes.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RoundBusy(f"another process is at work in {folder}; it goes on") from error
        yield


def _put_back(pool: Pool, plan: Plan) -> None:
    with pool.write() as session:
        row = session.get_one(Round, plan.round_id)
        if row.state == "running":
            # Nothing went wrong: the worker was asked to end, and the checkpoint waits for the next one.
            row.state, row.attempts = "queued", row.attempts - 1


def _note_failure(pool: Pool, plan: Plan, error: Exception) -> None:
    with pool.write() as session:
        row = session.get_one(Round, plan.round_id)
        if row.state != "running":
            return
        row.reason = f"{type(error).__name__}: {error}"
        row.failures += 1
        if row.failures >= MAX_FAILURES:
            row.state, row.ended_at = "failed", utcnow()
        else:
            row.state, row.retry_at = "queued", utcnow() + BACKOFF[row.failures - 1]
        data = {"reason": row.reason, "failures": row.failures, "retry_at": str(row.retry_at or "")}
        record(session, "round.failed", project_id=row.project_id, subject=str(plan.round_id), data=data)
