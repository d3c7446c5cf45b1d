"""`maskloop train --cancel`: within five seconds nothing works on the round any more, and the next may begin."""

import json
import signal
import time
from typing import Any

import psutil
import pytest
from command_fixture import Command
from pool_fixture import add_label, add_project, add_task
from sqlalchemy import select
from valkey_fixture import Valkey, wait_until
from worker_fixture import Workers

from maskloop_backend.cli import cancelling
from maskloop_backend.sync import work
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Event, Round, TrainRequest
from maskloop_learner.settings import Settings
from maskloop_queue import triggers
from maskloop_queue.queues import live_round_jobs, training_queue
from maskloop_queue.triggers import request_training, start_due_round
from maskloop_queue.valkey import redis_url

ENOUGH = 5.0
"""Seconds that a cancellation may take."""


@pytest.fixture
def project(pool: Pool, command: Command, shared_valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> int:
    """Six labels; commands find the tests' Valkey."""
    monkeypatch.setenv("MASKLOOP_REDIS_URL", redis_url(shared_valkey.settings))
    project_id = add_project(pool)
    for number in range(1, 7):
        add_label(pool, add_task(pool, project_id, number))
    return project_id


def rounds(pool: Pool) -> list[Round]:
    with pool.read() as session:
        return list(session.scalars(select(Round).order_by(Round.id)))


def test_what_waits_is_taken_away(
    pool: Pool, settings: Settings, project: int, command: Command, shared_valkey: Valkey
) -> None:
    """A queued round, its job, and wishes for another; the next wish is answered as ever."""
    conn = shared_valkey.connect()
    request_training(pool, project, cause="cli")
    assert work.enqueue_rounds(pool, conn, project, settings)
    assert training_queue(conn).count == 1
    for _ in range(2):
        request_training(pool, project, cause="button")
    code, said, _ = command("train", "--cancel", "--json")
    assert code == 0
    found = json.loads(said)
    assert {key: found[key] for key in ("round", "wishes", "ended")} == {"round": 1, "wishes": 2, "ended": True}
    assert training_queue(conn).count == 0
    assert not work.enqueue_rounds(pool, conn, project, settings)
    assert [(row.state, row.reason) for row in rounds(pool)] == [("cancelled", "cancelled by the cancel command")]
    with pool.read() as session:
        refused = session.scalars(select(TrainRequest.refused).order_by(TrainRequest.id)).all()
        kinds = session.scalars(select(Event.kind).order_by(Event.id)).all()
    assert refused == [None, "cancelled by the cancel command", "cancelled by the cancel command"]
    assert kinds[-2:] == ["training.withdrawn", "round.cancelled"]
    request_training(pool, project, cause="cli")
    assert start_due_round(pool, project, settings) == 2


def test_nothing_to_cancel_is_said(project: int, command: Command) -> None:
    code, _, said = command("train", "--cancel")
    assert code == 1
    assert "no training of project 7 (test) is queued or running" in said


def test_a_wish_that_is_withdrawn_while_it_is_answered_starts_nothing(
    pool: Pool, settings: Settings, project: int, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_training(pool, project, cause="cli")

    def freeze(pool: Pool, project_id: int, **how: Any) -> int:
        frozen = freeze_snapshot(pool, project_id, **how)
        assert command("train", "--cancel")[0] == 0
        return frozen

    from maskloop_learner.pool.snapshot import freeze_snapshot

    monkeypatch.setattr(triggers, "freeze_snapshot", freeze)
    assert start_due_round(pool, project, settings) is None
    assert rounds(pool) == []


def test_without_redis_the_round_ends_all_the_same(
    pool: Pool, settings: Settings, project: int, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKLOOP_REDIS_URL", "redis://127.0.0.1:1/0")
    request_training(pool, project, cause="cli")
    assert start_due_round(pool, project, settings) == 1
    code, said, _ = command("train", "--cancel")
    assert code == 0
    assert "ends after the step at hand (its worker did not answer)" in said
    assert [row.state for row in rounds(pool)] == ["cancelled"]


def test_ctrl_c_ends_the_watching_only(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), cancelling.goes_on_without_us():
        raise KeyboardInterrupt
    assert "`maskloop train --cancel` ends it" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("stuck", [False, True], ids=["between two steps", "in a step that does not end"])
def test_a_running_training_ends_within_five_seconds(
    pool: Pool, settings: Settings, project: int, command: Command, workers: Workers, stuck: bool
) -> None:
    """Its process is gone, its checkpoint too, and the same worker takes the next round."""
    conn = workers.conn
    request_training(pool, project, cause="cli")
    assert work.enqueue_rounds(pool, conn, project, settings)
    worker = workers.start(
        "training",
        MASKLOOP_HOME=str(settings.home),
        MASKLOOP_REDIS_URL=redis_url(workers.valkey.settings),
        MASKLOOP_TRAIN_STEPS="100000",
        MASKLOOP_TRAIN_BATCH="1",
        MASKLOOP_CHECKPOINT_STEPS="1",
        MASKLOOP_DEVICE="cpu",
        MASKLOOP_WORKER_LEASE="10",
    )
    folder = settings.home / "training" / "round-1"
    wait_until("at work", lambda: (folder / "checkpoint.pt").exists(), 150)
    (horse,) = psutil.Process(worker.pid).children()
    if stuck:
        horse.suspend()
    started = time.monotonic()
    code, said, _ = command("train", "--cancel", "--json")
    took = time.monotonic() - started
    found = json.loads(said)
    print(f"cancelled in {took:.1f} s: {found}")
    assert code == 0
    assert (found["ended"], found["killed"]) == (True, stuck)
    assert took < ENOUGH
    wait_until("no process", lambda: not horse.is_running() or horse.status() == psutil.STATUS_ZOMBIE, 1)
    assert not folder.exists()
    assert worker.poll() is None
    assert not live_round_jobs(conn)
    assert [(row.state, row.failures, row.model_id) for row in rounds(pool)] == [("cancelled", 0, None)]
    request_training(pool, project, cause="cli")
    assert work.enqueue_rounds(pool, conn, project, settings)
    wait_until("the next training", lambda: rounds(pool)[1].progress.get("step", 0) > 0, 150)
    workers.end(worker, signal.SIGTERM)
