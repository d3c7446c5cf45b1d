"""One round, one process: duplicates of a job, dead and stopped holders, two machines with one pool."""

import os
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from pool_fixture import add_label, add_project, add_task
from sqlalchemy import func, select
from valkey_fixture import wait_until
from worker_fixture import Workers

from maskloop_backend.sync import work
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Event, Model, Round, utcnow
from maskloop_learner.settings import Settings
from maskloop_queue import rounds
from maskloop_queue.lease import RoundBusy, hold_folder, lease_of, new_holder, take
from maskloop_queue.leftovers import sweep_rounds
from maskloop_queue.queues import enqueue_round, live_round_jobs
from maskloop_queue.triggers import request_training, start_due_round
from maskloop_queue.valkey import redis_url

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEASE = timedelta(seconds=200)
ELSEWHERE = "other-host 17 0123456789abcdef token"
HANG, WORKER_LEASE = 40, 2


@pytest.fixture
def round_id(pool: Pool, settings: Settings) -> int:
    """An open round on six labels."""
    settings.train_steps, settings.train_batch, settings.samples, settings.device = 2, 1, 2, "cpu"
    settings.calibration_images = 0
    project = add_project(pool)
    for number in range(1, 7):
        add_label(pool, add_task(pool, project, number))
    request_training(pool, project, cause="cli")
    opened = start_due_round(pool, project, settings)
    assert opened is not None
    return opened


def look(pool: Pool, round_id: int) -> Round:
    with pool.read() as session:
        return session.get_one(Round, round_id)


def give_to(pool: Pool, round_id: int, holder: str, until: datetime) -> None:
    """What another machine's process writes when it begins or goes on."""
    with pool.write() as session:
        row = session.get_one(Round, round_id)
        row.state, row.holder, row.held_until = "running", holder, until


def models(pool: Pool) -> int:
    with pool.read() as session:
        return session.scalar(select(func.count(Model.id))) or 0


def test_a_lease_is_taken_when_it_has_run_out_or_its_holder_is_dead(tmp_path: Path) -> None:
    here = new_holder(tmp_path)
    row = Round(id=1, state="running", holder=ELSEWHERE, held_until=NOON + LEASE)
    with pytest.raises(RoundBusy, match="process 17 on other-host is at work on round 1") as busy:
        take(row, here, now=NOON, lease=LEASE)
    assert busy.value.until == NOON + LEASE
    assert row.holder == ELSEWHERE
    take(row, here, now=NOON + LEASE, lease=LEASE)
    assert (row.holder, row.held_until) == (here, NOON + 2 * LEASE)
    # One of this folder had the lock that we have now.
    after_it = new_holder(tmp_path)
    take(row, after_it, now=NOON, lease=LEASE)
    assert row.holder == after_it != here
    # A clock that was a day ahead wrote this.
    row = Round(id=1, state="running", holder=ELSEWHERE, held_until=NOON + timedelta(days=1))
    take(row, here, now=NOON, lease=LEASE)
    assert row.holder == here


def test_places_are_folders(tmp_path: Path) -> None:
    """The name has four words; the third is the same for all processes that share the locks."""
    (tmp_path / "other").mkdir()
    first, second, other = (new_holder(folder).split() for folder in (tmp_path, tmp_path, tmp_path / "other"))
    assert len(first) == 4
    assert first[1] == str(os.getpid())
    assert first[2] == second[2] != other[2]
    assert first[3] != second[3]
    assert len(" ".join(first)) <= 200


def test_a_busy_round_costs_no_attempt_and_comes_back_when_its_lease_ends(
    pool: Pool, settings: Settings, round_id: int
) -> None:
    until = utcnow() + timedelta(seconds=100)
    give_to(pool, round_id, ELSEWHERE, until)
    with pytest.raises(RoundBusy):
        rounds.run(pool, round_id, settings, lambda progress: None, lambda: False)
    row = look(pool, round_id)
    assert (row.state, row.attempts, row.holder, row.retry_at) == ("running", 0, ELSEWHERE, until)
    give_to(pool, round_id, ELSEWHERE, utcnow())
    rounds.run(pool, round_id, settings, lambda progress: None, lambda: False)
    assert look(pool, round_id).state == "promoted"


def test_a_round_that_a_process_of_this_machine_holds_is_left_alone(
    pool: Pool, settings: Settings, round_id: int
) -> None:
    with hold_folder(settings.home / "training" / f"round-{round_id}", until=utcnow()), pytest.raises(RoundBusy):
        rounds.run(pool, round_id, settings, lambda progress: None, lambda: False)
    row = look(pool, round_id)
    assert (row.state, row.attempts) == ("queued", 0)
    assert row.retry_at is not None
    assert row.retry_at > utcnow()


@pytest.mark.parametrize("moment", [1, 2])
def test_who_has_lost_the_lease_stops_and_publishes_nothing(
    pool: Pool, settings: Settings, round_id: int, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first step it stops; after the last it looks before it publishes. The round is the other's."""
    monkeypatch.setattr("maskloop_queue.reporter.LOOK_EVERY", 0.0 if moment == 1 else 60.0)
    steps: list[int] = []

    def report(progress: dict[str, Any]) -> None:
        steps.append(progress["step"])
        if progress["step"] == moment:
            give_to(pool, round_id, ELSEWHERE, utcnow() + LEASE)

    rounds.run(pool, round_id, settings, report, lambda: False)
    row = look(pool, round_id)
    assert steps == list(range(1, moment + 1))
    assert (row.state, row.holder, row.model_id, row.attempts) == ("running", ELSEWHERE, None, 1)
    assert models(pool) == 0
    assert not (settings.home / "training" / f"round-{round_id}").exists()


def test_the_lease_is_renewed_while_it_works_and_let_go_when_it_stops(
    pool: Pool, settings: Settings, round_id: int
) -> None:
    ends: list[datetime] = []

    def report(progress: dict[str, Any]) -> None:
        row = look(pool, round_id)
        assert row.holder is not None
        assert row.holder.split()[1] == str(os.getpid())
        assert row.held_until is not None
        ends.append(row.held_until)

    rounds.run(pool, round_id, settings, report, lambda: len(ends) == 1)
    assert len(ends) == 1
    assert timedelta(0) < ends[0] - utcnow() <= lease_of(settings)
    row = look(pool, round_id)
    assert (row.state, row.holder, row.held_until, row.attempts) == ("queued", None, None, 0)
    rounds.run(pool, round_id, settings, report, lambda: False)
    assert look(pool, round_id).state == "promoted"


def test_a_snapshot_that_cannot_be_read_is_a_failure_with_a_pause(
    pool: Pool, settings: Settings, round_id: int
) -> None:
    """Not a death: those are tried again at once."""
    for blob in (settings.home / "store" / "manifests").rglob("*"):
        if blob.is_file():
            blob.unlink()
    with pytest.raises(Exception, match="manifests"):
        rounds.run(pool, round_id, settings, lambda progress: None, lambda: False)
    row = look(pool, round_id)
    assert (row.state, row.failures, row.holder) == ("queued", 1, None)
    assert row.retry_at is not None


def test_folders_of_ended_rounds_are_swept(pool: Pool, settings: Settings, round_id: int) -> None:
    """Left by a process that was killed; one that still has its folder keeps it, and so does an open round."""
    folder = settings.home / "training"
    for name in (f"round-{round_id}", "round-998", "round-999", "round-x"):
        (folder / name).mkdir(parents=True)
    with hold_folder(folder / "round-998", until=utcnow()):
        sweep_rounds(pool, settings.home)
    assert {path.name for path in folder.iterdir()} == {f"round-{round_id}", "round-998", "round-x"}
    assert rounds.cancel(pool, round_id, by="test")
    sweep_rounds(pool, settings.home)
    assert {path.name for path in folder.iterdir()} == {"round-x"}


class Machine:
    """A home of its own with the pool, store and Redis of all machines."""

    def __init__(self, workers: Workers, settings: Settings, home: Path) -> None:
        self.workers, self.home = workers, home
        self.env = {
            "MASKLOOP_HOME": str(home),
            "MASKLOOP_DATABASE_URL": settings.resolved_database_url,
            "MASKLOOP_STORE_URL": settings.resolved_store_url,
            "MASKLOOP_REDIS_URL": redis_url(workers.valkey.settings),
            "MASKLOOP_TRAIN_STEPS": "40",
            "MASKLOOP_TRAIN_BATCH": "1",
            "MASKLOOP_CHECKPOINT_STEPS": "10",
            "MASKLOOP_SAMPLES": "2",
            "MASKLOOP_DEVICE": "cpu",
            "MASKLOOP_CALIBRATION_IMAGES": "0",
            "MASKLOOP_HANG_TIMEOUT": str(HANG),
            "MASKLOOP_WORKER_LEASE": str(WORKER_LEASE),
            "MASKLOOP_BEAT": str(home / "beat"),
        }

    def start(self) -> subprocess.Popen[bytes]:
        return self.workers.start("training", **self.env)


def pid_of(row: Round) -> int:
    """The process at work."""
    return int(row.holder.split()[1]) if row.holder else 0


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_two_workers_with_the_same_round_train_it_once(
    pool: Pool, settings: Settings, round_id: int, workers: Workers
) -> None:
    """Two jobs for one round on one machine: the second worker sees the lock, and the round has one start."""
    machine = Machine(workers, settings, settings.home)
    for attempt in (1, 2):
        assert enqueue_round(workers.conn, round_id, attempt)
    for _ in range(2):
        machine.start()
    wait_until("left alone", lambda: "is left alone until" in workers.log, 150)
    project = look(pool, round_id).project_id
    workers.wait_clean("ended", lambda: look(pool, round_id).state not in ("queued", "running"), 200)
    work.enqueue_rounds(pool, workers.conn, project, settings)
    wait_until("no job left", lambda: not live_round_jobs(workers.conn))
    row = look(pool, round_id)
    with pool.read() as session:
        kinds = session.scalars(select(Event.kind).where(Event.subject == str(round_id), Event.kind.like("round.%")))
        assert sorted(kinds) == ["round.opened", "round.promoted", "round.started"]
    assert (row.state, row.attempts, models(pool)) == ("promoted", 1, 1)


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_another_machine_takes_a_round_over_when_its_lease_has_run_out(
    pool: Pool, settings: Settings, round_id: int, workers: Workers, tmp_path: Path, how: signal.Signals
) -> None:
    """The first machine is gone, or stands still and wakes up again: one outcome, and no trace of the first's."""
    first, second = (Machine(workers, settings, tmp_path / name) for name in ("first", "second"))
    project = look(pool, round_id).project_id
    patient = settings.model_copy(update={"hang_timeout": float(HANG), "worker_lease": float(WORKER_LEASE)})

    def state() -> str:
        work.enqueue_rounds(pool, workers.conn, project, patient)
        return look(pool, round_id).state

    state()
    worker = first.start()
    wait_until("at work", lambda: look(pool, round_id).progress.get("step", 0) >= 5, 150)
    horse = psutil.Process(pid_of(look(pool, round_id)))
    for victim in (psutil.Process(worker.pid), horse):
        victim.send_signal(how)
    second.start()

    def taken() -> bool:
        state()
        return pid_of(look(pool, round_id)) not in (0, horse.pid)

    took = workers.wait_clean("taken over", taken, 150)
    print(f"taken over {took:.1f} s after {how.name}, with a lease of {lease_of(patient).total_seconds():g} s")
    assert took >= lease_of(patient).total_seconds() - 3
    if how == signal.SIGSTOP:
        for victim in (horse, psutil.Process(worker.pid)):
            victim.send_signal(signal.SIGCONT)
        wait_until("the first stops", lambda: not horse.is_running(), 20)
        assert "another process has taken it" in workers.log
        assert not (first.home / "training" / f"round-{round_id}").exists()
    workers.wait_clean("ended", lambda: state() not in ("queued", "running"), 200)
    row = look(pool, round_id)
    assert (row.state, row.attempts, row.failures, models(pool)) == ("promoted", 2, 0, 1)
