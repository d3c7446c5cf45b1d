"""A training round from its snapshot to the champion, with real weights and one step."""

from typing import Any

import pytest
from pool_fixture import add_label, add_model, add_project, add_task
from sqlalchemy import select

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Event, Model, Project, Round
from maskloop_learner.settings import Settings
from maskloop_learner.train.registry import ensure_version, roll_back, set_champion
from maskloop_queue import rounds
from maskloop_queue.triggers import request_training, start_due_round


@pytest.fixture
def round_id(pool: Pool, settings: Settings) -> int:
    """An open round on two labels; its champion's weights are of no known form."""
    settings.train_steps, settings.samples, settings.device = 1, 2, "cpu"
    project_id = add_project(pool)
    for n in (1, 2):
        add_label(pool, add_task(pool, project_id, n))
    model_id = add_model(pool, project_id)
    with pool.write() as session:
        project, model = session.get_one(Project, project_id), session.get_one(Model, model_id)
        version = ensure_version(session, project, model, settings)
        set_champion(session, project_id=project_id, model_id=model_id, version_id=version, fence=0, by="test")
    request_training(pool, project_id, cause="cli")
    opened = start_due_round(pool, project_id, settings)
    assert opened is not None
    return opened


def test_a_champion_that_cannot_be_loaded_is_replaced_once(pool: Pool, settings: Settings, round_id: int) -> None:
    """An upgrade that cannot read the old weights does not end the loop; the job's second run changes nothing."""
    reports: list[dict[str, Any]] = []
    for _ in range(2):
        rounds.run(pool, round_id, settings, reports.append, lambda: False)
    with pool.read() as session:
        ended, champion = session.get_one(Round, round_id), session.scalars(select(Champion)).one()
        changes = session.scalars(select(Event).where(Event.kind == "champion.changed")).all()
    assert (ended.state, ended.attempts, ended.failures) == ("promoted", 1, 0)
    assert ended.reason is not None
    assert "no champion to compare with" in ended.reason
    assert (champion.model_id, champion.fence) == (ended.model_id, 2)
    assert len(changes) == 2
    assert [report["step"] for report in reports] == [1]
    assert not (settings.home / "training" / f"round-{round_id}").exists()


def test_a_round_that_a_person_ended_publishes_nothing(pool: Pool, settings: Settings, round_id: int) -> None:
    """Cancelled while it trains: the outcome is dropped and the champion stays."""

    def report(progress: dict[str, Any]) -> None:
        rounds.cancel(pool, round_id, by="a person")

    rounds.run(pool, round_id, settings, report, lambda: False)
    with pool.read() as session:
        ended, champion = session.get_one(Round, round_id), session.scalars(select(Champion)).one()
        models = session.scalars(select(Model)).all()
    assert (ended.state, ended.model_id) == ("cancelled", None)
    assert (champion.fence, len(models)) == (1, 1)


def test_a_rollback_during_the_training_stays(pool: Pool, settings: Settings, round_id: int) -> None:
    """What was learnt from labels older than the rollback does not undo it."""
    with pool.read() as session:
        first = session.scalars(select(Champion)).one()
    second = add_model(pool, first.project_id, b"other weights")
    with pool.write() as session:
        project = session.get_one(Project, first.project_id)
        version = ensure_version(session, project, session.get_one(Model, second), settings)
        set_champion(session, project_id=project.id, model_id=second, version_id=version, fence=1, by="test")

    def report(progress: dict[str, Any]) -> None:
        with pool.write() as session:
            roll_back(session, session.get_one(Project, first.project_id), settings, by="a person")

    rounds.run(pool, round_id, settings, report, lambda: False)
    with pool.read() as session:
        ended, champion = session.get_one(Round, round_id), session.scalars(select(Champion)).one()
    assert (ended.state, champion.model_id, champion.fence) == ("rejected", first.model_id, 3)
    assert ended.reason is not None
    assert "a person pinned the champion" in ended.reason
