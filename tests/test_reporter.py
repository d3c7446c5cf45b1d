"""A round's progress on its way to the pool."""

from datetime import timedelta

import pytest
from pool_fixture import add_label, add_project, add_task

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Round
from maskloop_learner.settings import Settings
from maskloop_queue.reporter import Reporter
from maskloop_queue.triggers import request_training, start_due_round

HOLDER = "host 1 boot token"


def test_whichever_look_comes_next_takes_the_last_progress_along(
    pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training asks many times a step whether it should stop; its bar moves with each look all the same."""
    project = add_project(pool)
    for number in (1, 2):
        add_label(pool, add_task(pool, project, number))
    request_training(pool, project, cause="cli")
    opened = start_due_round(pool, project, settings)
    assert opened is not None
    with pool.write() as session:
        row = session.get_one(Round, opened)
        row.state, row.holder = "running", HOLDER

    def shown() -> int:
        with pool.read() as session:
            return int(session.get_one(Round, opened).progress.get("step", 0))

    now = [100.0]
    monkeypatch.setattr("maskloop_queue.reporter.time.monotonic", lambda: now[0])
    reporter = Reporter(
        pool=pool,
        round_id=opened,
        holder=HOLDER,
        lease=timedelta(seconds=60),
        report=lambda state: None,
        should_stop=lambda: False,
    )
    for step in range(1, 11):
        now[0] += 0.3
        assert not reporter.stopped()
        now[0] += 0.3
        reporter.progress({"step": step, "steps": 100, "loss": 1 / step})
        assert shown() >= step - 2
    with pool.read() as session:
        losses = session.get_one(Round, opened).progress["losses"]
    assert losses == [[step, float(f"{1 / step:.5g}")] for step in range(1, shown() + 1)]
    pool.close()
