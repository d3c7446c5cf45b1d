"""The training worker's job: train on a snapshot, pass the gate, publish. Safe to run again after any death."""

import logging
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sqlalchemy.orm import Session

from maskloop_learner.disk import measure_room
from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Round, Snapshot, utcnow
from maskloop_learner.pool.snapshot import load_manifest
from maskloop_learner.settings import Settings
from maskloop_queue.fitting import train_and_publish
from maskloop_queue.lease import RoundBusy, held, hold_folder, lease_of, new_holder, release, take
from maskloop_queue.leftovers import sweep_rounds
from maskloop_queue.plan import Plan
from maskloop_queue.reporter import Report, Reporter
from maskloop_queue.triggers import ACTIVE, BACKOFF, RoundChanged, active_round, withdraw_requests

__all__ = ["RoundBusy", "cancel", "cancel_project", "run"]

log = logging.getLogger(__name__)

MAX_FAILURES = len(BACKOFF) + 1
MAX_DEATHS = 20
"""A process that is killed says nothing of its labels, so it is tried more often than one that fails."""


def run(
    pool: Pool,
    round_id: int,
    settings: Settings,
    report: Report,
    should_stop: Callable[[], bool],
    give_way: Callable[[], None] = lambda: None,
) -> None:
    """Train the round's snapshot and publish the outcome. A round that has ended is left alone.

    `give_way` is called between two pieces of work and may wait.

    A failure is written to the round with the time of its next try, then raised; a stop puts the round back. Raises
    RoundBusy, with the time of the next try written too, when another process is at work on it.
    """
    sweep_rounds(pool, settings.home)
    with pool.read() as session:
        row = session.get_one(Round, round_id)
    if row.state not in ACTIVE:
        log.info("round %d has ended already (%s)", round_id, row.state)
        return
    try:
        with hold_folder(_folder(settings.home, round_id), until=utcnow() + lease_of(settings) / 3):
            _work(pool, round_id, settings, report, should_stop, give_way)
    except RoundBusy as busy:
        _come_back(pool, round_id, busy.until)
        raise


def _work(
    pool: Pool,
    round_id: int,
    settings: Settings,
    report: Report,
    should_stop: Callable[[], bool],
    give_way: Callable[[], None],
) -> None:
    from maskloop_learner.train.loop import TrainingCancelled

    folder = _folder(settings.home, round_id)
    holder = new_holder(folder.parent)
    snapshot = _begin(pool, round_id, settings, holder)
    if snapshot is not None:
        reporter = Reporter(
            pool=pool,
            round_id=round_id,
            holder=holder,
            lease=lease_of(settings),
            report=report,
            should_stop=should_stop,
            give_way=give_way,
        )
        try:
            manifest = load_manifest(pool, snapshot)
            plan = Plan(round_id, snapshot.project_id, snapshot.id, manifest, folder, holder)
            train_and_publish(pool, plan, settings, reporter)
        except TrainingCancelled:
            if _put_back(pool, round_id, holder):
                return
        except Exception as error:
            if (room := measure_room(settings)).is_low:
                # Whatever it is called, this failure says nothing of the labels.
                log.warning("round %d waits for room (%s), it ended with: %s", round_id, room, error)
                _put_back(pool, round_id, holder)
                return
            _note_failure(pool, round_id, holder, error)
            raise
    # Only a round that goes on here needs its checkpoint.
    shutil.rmtree(folder, ignore_errors=True)


def _folder(home: Path, round_id: int) -> Path:
    return home / "training" / f"round-{round_id}"


def cancel(pool: Pool, round_id: int, *, by: str) -> bool:
    """End a round that has not ended yet; its job stops at the next step. Returns whether there was one."""
    with pool.write() as session:
        row = session.get(Round, round_id, with_for_update=True)
        if row is None or row.state not in ACTIVE:
            return False
        _end(session, row, by=by)
        return True


def cancel_project(pool: Pool, project_id: int, *, by: str, seen: int | None = None) -> tuple[int | None, int]:
    """End the project's open round and withdraw the wishes that no round has answered: the round's id, their number.

    seen: the round that is to be ended, 0 where none was open; None: whatever is open. Raises RoundChanged, and changes
    nothing, when another one is open by now.
    """
    with pool.write() as session:
        row = active_round(session, project_id)
        now = row.id if row is not None else 0
        if seen is not None and seen != now:
            before = f"training {seen} has ended meanwhile" if seen else "no training was open before"
            raise RoundChanged(f"{before}, and {f'training {now}' if now else 'none'} is open now")
        wishes = withdraw_requests(session, project_id, by=by)
        if row is not None:
            _end(session, row, by=by)
        return row.id if row is not None else None, wishes


def _end(session: Session, row: Round, *, by: str) -> None:
    row.state, row.reason, row.ended_at = "cancelled", f"cancelled by {by}", utcnow()
    record(session, "round.cancelled", project_id=row.project_id, subject=str(row.id), data={"by": by})


def _begin(pool: Pool, round_id: int, settings: Settings, holder: str) -> Snapshot | None:
    with pool.write() as session:
        row = session.get_one(Round, round_id, with_for_update=True)
        if row.state not in ACTIVE:
            log.info("round %d has ended already (%s)", round_id, row.state)
            return None
        take(row, holder, now=utcnow(), lease=lease_of(settings))
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
        return session.get_one(Snapshot, row.snapshot_id)


def _come_back(pool: Pool, round_id: int, at: datetime) -> None:
    """Have the round's next job at `at`: should its holder die meanwhile, the holder's own job comes back sooner."""
    with pool.write() as session:
        row = session.get_one(Round, round_id, with_for_update=True)
        if row.state in ACTIVE:
            row.retry_at = at


def _put_back(pool: Pool, round_id: int, holder: str) -> bool:
    """Leave the round to the next process; whether it was this one's still."""
    with pool.write() as session:
        row = held(session, round_id, holder)
        if row is None:
            return False
        # Nothing went wrong: the worker was asked to end, and the checkpoint waits for the next one.
        row.state, row.attempts = "queued", row.attempts - 1
        release(row)
        return True


def _note_failure(pool: Pool, round_id: int, holder: str, error: Exception) -> None:
    with pool.write() as session:
        row = held(session, round_id, holder)
        if row is None:
            return
        release(row)
        row.reason = f"{type(error).__name__}: {error}"
        row.failures += 1
        if row.failures >= MAX_FAILURES:
            row.state, row.ended_at = "failed", utcnow()
        else:
            row.state, row.retry_at = "queued", utcnow() + BACKOFF[row.failures - 1]
        data = {"reason": row.reason, "failures": row.failures, "retry_at": str(row.retry_at or "")}
        record(session, "round.failed", project_id=row.project_id, subject=str(round_id), data=data)
