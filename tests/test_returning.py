"""A rollback in Label Studio: at once where the version's masks are still there, completed first where they are not."""

from datetime import timedelta

import pytest
from pool_fixture import add_model, add_project, add_task
from web_fixture import add_version

from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.sync.push import Pusher
from maskloop_backend.sync.returning import may_return, switch_back
from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import PredictionVersion, Project, Push, utcnow

HOUR = timedelta(hours=1)


@pytest.fixture
def project(pool: Pool) -> int:
    """Four tasks; v1 to v3 were served one after the other, v3 is now, and v4 is new. Each has its masks in all."""
    project = add_project(pool)
    model = add_model(pool, project)
    tasks = [add_task(pool, project, ls_id) for ls_id in range(1, 5)]
    for number, version in enumerate(("v1", "v2", "v3", "v4")):
        add_version(pool, project, model, version)
        with pool.write() as session:
            for task in tasks:
                push = Push(ls_prediction_id=10 * number + task, project_id=project, task_id=task, version_id=version)
                session.add(push)
            if version != "v4":
                session.get_one(PredictionVersion, version).created_at = utcnow() - 2 * HOUR
                record(session, "version.served", project_id=project, subject=version, data={})
    with pool.write() as session:
        row = session.get_one(Project, project)
        row.served_version, row.previous_version, row.switched_at = "v3", "v2", utcnow() - HOUR
    return project


def returns(pool: Pool, project: int, version: str) -> bool:
    """Whether the version is served again at once."""
    with pool.read() as session:
        return may_return(session, project, version)


def take_away(pool: Pool, version: str, *tasks: int) -> None:
    """Predictions leave Label Studio."""
    with pool.write() as session:
        for push in session.query(Push).where(Push.version_id == version, Push.task_id.in_(tasks)):
            push.gone_at = utcnow()


def test_what_was_served_before_returns_at_once(pool: Pool, project: int) -> None:
    assert [returns(pool, project, version) for version in ("v1", "v2", "v3", "v4")] == [True, True, False, False]


def test_new_images_do_not_hold_the_version_before_up(pool: Pool, project: int) -> None:
    """Of an older one half of the masks must be there, of the one before any; without one it cannot be served."""
    for ls_id in range(11, 14):
        add_task(pool, project, ls_id)
    assert (returns(pool, project, "v1"), returns(pool, project, "v2")) == (True, True)
    add_task(pool, project, 14)
    add_task(pool, project, 15)
    assert (returns(pool, project, "v1"), returns(pool, project, "v2")) == (False, True)
    take_away(pool, "v2", 1, 2, 3, 4)
    assert not returns(pool, project, "v2")


def test_a_version_that_was_only_begun_is_completed_first(pool: Pool, project: int) -> None:
    """Made long ago, some masks pushed, never served."""
    with pool.write() as session:
        session.get_one(PredictionVersion, "v4").created_at = utcnow() - 2 * HOUR
    assert not returns(pool, project, "v4")


def test_nothing_returns_before_anything_was_served(pool: Pool, project: int) -> None:
    with pool.write() as session:
        session.get_one(Project, project).served_version = None
    assert not returns(pool, project, "v1")


def test_a_label_studio_that_refuses_does_not_hold_up_the_rest(pool: Pool, project: int) -> None:
    """Nobody listens there."""
    with LabelStudio("http://127.0.0.1:1", "0" * 40) as client:
        pusher = Pusher(pool=pool, client=client, beat=lambda: None)
        assert not switch_back(pool, pusher, project, "v2")
        assert not switch_back(pool, pusher, project, "v3")
    with pool.read() as session:
        assert session.get_one(Project, project).served_version == "v3"
