"""When a training is due: labels that come together make one, a person is always answered, clocks may be wrong."""

import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from subprocess import PIPE
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pool_fixture import add_label, add_project, add_task
from pydantic import ValidationError
from sqlalchemy import select
from valkey_fixture import FLOORS, Valkey

from maskloop_backend.sync import work
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Label, Project, Round, Snapshot, TrainRequest, utcnow
from maskloop_learner.pool.snapshot import freeze_snapshot
from maskloop_learner.settings import Settings
from maskloop_queue import triggers
from maskloop_queue.queues import training_queue
from maskloop_queue.timing import has_come, labels_are_due, latest_past
from maskloop_queue.triggers import due_cause, request_training, start_due_round

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUIET, PATIENCE = timedelta(seconds=60), timedelta(seconds=900)


def after(*seconds: float) -> list[datetime]:
    """Moments so many seconds after noon."""
    return [NOON + timedelta(seconds=second) for second in seconds]


def due(arrivals: list[datetime], at: float, threshold: int = 3) -> bool:
    (now,) = after(at)
    return labels_are_due(arrivals, now=now, threshold=threshold, quiet=QUIET, patience=PATIENCE)


def test_labels_that_come_together_make_one_training() -> None:
    """Not at the third label, but when none has come for a minute."""
    assert not due(after(0, 10), at=500), "too few wait for ever"
    assert not due(after(0, 10, 20), at=79.9)
    assert due(after(0, 10, 20), at=80)
    assert not due(after(0, 10, 20, 75), at=80), "one more came"
    assert due(after(20, 0, 75, 10), at=135), "in whatever order they are read"
    with pytest.raises(ValueError, match="threshold must be at least 1, got 0"):
        due(after(0), at=0, threshold=0)


def test_a_steady_stream_is_learnt_from_after_the_longest_wait() -> None:
    """A label every half minute: due 900 s after the third, whatever comes since."""
    stream = after(*range(0, 2000, 30))
    first = next(at for at in range(2000) if due([m for m in stream if m <= NOON + timedelta(seconds=at)], at))
    assert first == 60 + 900


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=20), st.floats(-1e6, 1e6))
def test_no_clock_puts_a_training_off_for_longer_than_the_longest_wait(came: list[float], now: float) -> None:
    """Wherever the labels' moments lie, ahead or behind: it is due now, or within a quiet period and the wait."""
    arrivals = after(*came)
    longest = max(QUIET, PATIENCE).total_seconds()
    assert due(arrivals, now) or due(arrivals, now + longest + 1)


def test_a_moment_that_a_wrong_clock_wrote_counts_as_past() -> None:
    hour = timedelta(hours=1)
    assert has_come(NOON, now=NOON, longest=hour)
    assert not has_come(NOON + hour, now=NOON, longest=hour)
    assert has_come(NOON + 2 * hour, now=NOON, longest=hour)
    assert latest_past([NOON - hour, NOON + hour, NOON], now=NOON) == NOON
    assert latest_past([NOON + hour], now=NOON) is None


@pytest.mark.parametrize("wrong", ["now and then", "0 0 30 2 *", "61 * * * *"])
def test_a_cron_expression_without_a_moment_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(ValidationError, match="not a cron expression that has a moment"):
        Settings(trigger_cron=wrong)
    assert Settings(trigger_cron="").trigger_cron is None


@pytest.fixture
def project(pool: Pool) -> int:
    """A project that was connected two days before noon."""
    project_id = add_project(pool)
    with pool.write() as session:
        session.get_one(Project, project_id).created_at = NOON - timedelta(days=2)
    return project_id


def label_at(pool: Pool, project: int, *moments: datetime, submitted: datetime | None = None) -> None:
    """Images labelled at these moments, or long ago and taken in then."""
    with pool.read() as session:
        known = len(session.scalars(select(Label.id)).all())
    for number, moment in enumerate(moments, start=known + 1):
        label_id = add_label(pool, add_task(pool, project, number))
        with pool.write() as session:
            row = session.get_one(Label, label_id)
            row.created_at, row.ls_updated_at = moment, submitted or moment


def cause(pool: Pool, project: int, settings: Settings, now: datetime) -> str | None:
    with pool.read() as session:
        return due_cause(session, session.get_one(Project, project), settings, now=now)


def end(pool: Pool, round_id: int | None, at: datetime | None = None) -> None:
    """What a training writes at its end; `at` moves its beginning."""
    assert round_id is not None
    with pool.write() as session:
        row = session.get_one(Round, round_id)
        row.state, row.created_at = "rejected", at or row.created_at


def test_the_pool_alone_says_that_labels_have_come_to_rest(pool: Pool, settings: Settings, project: int) -> None:
    settings.trigger_labels, settings.trigger_quiet, settings.trigger_max_wait = 3, 60, 900
    label_at(pool, project, *after(0, 30))
    assert cause(pool, project, settings, after(500)[0]) is None
    label_at(pool, project, *after(510))
    assert cause(pool, project, settings, after(560)[0]) is None
    assert cause(pool, project, settings, after(570)[0]) == "labels"
    request_training(pool, project, cause="cli")
    assert cause(pool, project, settings, after(511)[0]) == "cli", "a person need not wait"


def test_labels_during_a_training_are_in_the_next_snapshot(pool: Pool, settings: Settings, project: int) -> None:
    settings.trigger_labels = 2
    label_at(pool, project, *after(0, 1))
    first = start_due_round(pool, project, settings)
    label_at(pool, project, *after(2, 3, 4))
    assert start_due_round(pool, project, settings) is None
    end(pool, first)
    second = start_due_round(pool, project, settings)
    assert second is not None
    with pool.read() as session:
        frozen = session.scalars(select(Snapshot.label_ids).order_by(Snapshot.id)).all()
    assert [len(ids) for ids in frozen] == [2, 5]


def test_a_cron_moment_needs_a_label_that_was_there(pool: Pool, settings: Settings, project: int) -> None:
    """At noon there was none: the label of one o'clock waits for the next noon, and is learnt from once."""
    settings.trigger_labels, settings.trigger_cron = 0, "0 12 * * *"
    label_at(pool, project, *after(3600))
    assert cause(pool, project, settings, after(3700)[0]) is None
    next_noon = NOON + timedelta(days=1)
    assert cause(pool, project, settings, next_noon - timedelta(seconds=1)) is None
    assert cause(pool, project, settings, next_noon) == "cron"
    end(pool, start_due_round(pool, project, settings), at=next_noon)
    assert cause(pool, project, settings, next_noon + timedelta(days=9)) is None


def test_cron_moments_missed_while_sync_was_down_count_once(pool: Pool, settings: Settings, project: int) -> None:
    """A label submitted on the first day, taken in after three noons: one training, at once."""
    settings.trigger_labels, settings.trigger_cron = 0, "0 12 * * *"
    back = NOON + timedelta(days=3, hours=2)
    label_at(pool, project, back, submitted=NOON - timedelta(hours=1))
    assert cause(pool, project, settings, back) == "cron"
    end(pool, start_due_round(pool, project, settings), at=back)
    assert cause(pool, project, settings, back + timedelta(hours=1)) is None
    label_at(pool, project, back + timedelta(hours=1))
    assert cause(pool, project, settings, back + timedelta(hours=2)) is None


def test_cron_outlives_a_clock_that_is_set_back(pool: Pool, settings: Settings, project: int) -> None:
    """The last training seems to begin a year from now: neither silence until then nor one training after the other."""
    settings.trigger_labels, settings.trigger_cron = 0, "0 12 * * *"
    label_at(pool, project, *after(0))
    request_training(pool, project, cause="cli")
    end(pool, start_due_round(pool, project, settings), at=NOON + timedelta(days=365))
    label_at(pool, project, *after(60))
    assert cause(pool, project, settings, after(120)[0]) is None
    assert cause(pool, project, settings, NOON + timedelta(days=1)) == "cron"
    end(pool, start_due_round(pool, project, settings), at=NOON + timedelta(days=1))
    assert cause(pool, project, settings, NOON + timedelta(days=2)) is None
    # What seems to come from the future is taken at once, and once.
    label_at(pool, project, NOON + timedelta(days=900))
    with pool.write() as session:
        session.get_one(Project, project).created_at = NOON + timedelta(days=900)
    assert cause(pool, project, settings, NOON) == "cron"
    end(pool, start_due_round(pool, project, settings))
    assert cause(pool, project, settings, NOON) is None


def requests(pool: Pool) -> list[tuple[int | None, str | None]]:
    with pool.read() as session:
        rows = session.scalars(select(TrainRequest).order_by(TrainRequest.id)).all()
    return [(row.round_id, row.refused) for row in rows]


def test_wishes_during_a_training_make_one_more(pool: Pool, settings: Settings, project: int) -> None:
    """Those before it are answered by it, three while it runs by the one after it, and none is lost."""
    label_at(pool, project, *after(0, 1))
    request_training(pool, project, cause="cli")
    first = start_due_round(pool, project, settings)
    for wish in ("cli", "button", "cli"):
        request_training(pool, project, cause=wish)
        assert start_due_round(pool, project, settings) is None
    assert requests(pool) == [(first, None), (None, None), (None, None), (None, None)]
    end(pool, first)
    second = start_due_round(pool, project, settings)
    assert requests(pool) == [(first, None), (second, None), (second, None), (second, None)]
    end(pool, second)
    assert start_due_round(pool, project, settings) is None


def test_a_wish_while_the_snapshot_is_frozen_is_the_next_rounds(
    pool: Pool, settings: Settings, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its labels are not in the snapshot: to call it answered would be a lie."""
    label_at(pool, project, *after(0, 1))
    request_training(pool, project, cause="cli")

    def freeze_and_wish(pool: Pool, project_id: int, **how: Any) -> int:
        frozen = freeze_snapshot(pool, project_id, **how)
        request_training(pool, project_id, cause="button")
        return frozen

    monkeypatch.setattr(triggers, "freeze_snapshot", freeze_and_wish)
    first = start_due_round(pool, project, settings)
    assert requests(pool) == [(first, None), (None, None)]


STARTER = """
import sys
from pathlib import Path
from typing import Any
from maskloop_learner.pool.pool import Pool
from maskloop_learner.settings import Settings
from maskloop_queue.triggers import start_due_round
settings = Settings(home=Path(sys.argv[1]))
pool = Pool.open(settings)
print("ready", flush=True)
for line in sys.stdin:
    print(start_due_round(pool, int(sys.argv[2]), settings), flush=True)
"""


@pytest.mark.slow
def test_processes_that_start_at_once_open_one_round(pool: Pool, settings: Settings, project: int) -> None:
    """Two at the same moment, ten times over."""
    label_at(pool, project, *after(0, 1))
    command = [sys.executable, "-c", STARTER, str(settings.home), str(project)]
    env = {"PYTHONPATH": FLOORS, "MASKLOOP_DATABASE_URL": settings.resolved_database_url}
    with ExitStack() as stack:
        starters = [
            stack.enter_context(subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, env=env))
            for _ in range(2)
        ]
        pipes = [(starter.stdin, starter.stdout) for starter in starters if starter.stdin and starter.stdout]
        assert [out.readline() for _, out in pipes] == ["ready\n"] * 2
        for turn in range(1, 11):
            request_training(pool, project, cause="cli")
            for told, _ in pipes:
                told.write("now\n")
                told.flush()
            assert sorted(out.readline().strip() for _, out in pipes) == sorted([str(turn), "None"])
            end(pool, turn)
        for told, _ in pipes:
            told.close()
    assert [starter.returncode for starter in starters] == [0, 0]


def test_the_database_refuses_a_second_open_round(
    pool: Pool, settings: Settings, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two have read that none is open, as on a database where two write at once: the second yields, and says so."""
    label_at(pool, project, *after(0, 1))
    request_training(pool, project, cause="cli")
    first = start_due_round(pool, project, settings)
    request_training(pool, project, cause="cli")
    looks, look = [None, None], triggers.active_round
    monkeypatch.setattr(triggers, "active_round", lambda *at: looks.pop() if looks else look(*at))
    assert start_due_round(pool, project, settings) is None
    assert looks == []
    assert requests(pool) == [(first, None), (None, None)]


def test_a_pause_that_a_wrong_clock_wrote_ends(
    pool: Pool, settings: Settings, project: int, shared_valkey: Valkey
) -> None:
    """A round between two tries waits for its time; set back by a day, the clock does not make it wait for that day."""
    conn = shared_valkey.connect()
    label_at(pool, project, *after(0, 1))
    request_training(pool, project, cause="cli")
    round_id = start_due_round(pool, project, settings)
    for ahead, queued in ((timedelta(hours=1), 0), (timedelta(days=1), 1)):
        with pool.write() as session:
            session.get_one(Round, round_id).retry_at = utcnow() + ahead
        assert work.enqueue_rounds(pool, conn, project, settings)
        assert training_queue(conn).count == queued


def test_a_project_that_always_wants_to_train_lets_others_in(
    pool: Pool, settings: Settings, project: int, shared_valkey: Valkey
) -> None:
    """One worker: a wish of the other project waits for the round at work and no second one."""
    conn, other = shared_valkey.connect(), add_project(pool, ls_id=8)
    for project_id in (project, other):
        for number in (1, 2):
            add_label(pool, add_task(pool, project_id, number))
    order = []
    for turn in range(6):
        request_training(pool, project, cause="cli")
        if turn == 1:
            request_training(pool, other, cause="cli")
        for project_id in (project, other):
            work.enqueue_rounds(pool, conn, project_id, settings)
        job_id = training_queue(conn).pop_job_id()
        assert job_id is not None
        round_id = int(job_id.split("-")[1])
        # The next wishes come while this one is at work.
        with pool.read() as session:
            order.append(session.get_one(Round, round_id).project_id)
        end(pool, round_id)
    assert order.index(other) <= 2
    assert order.count(project) == 5
