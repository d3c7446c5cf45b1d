"""Labels counted in one light pass are the same as those that a snapshot would merge."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from pool_fixture import add_project, add_task, png_bytes
from sqlalchemy import event

from maskloop_backend.readiness import readiness
from maskloop_learner.pool.briefs import newest_briefs
from maskloop_learner.pool.manifest import MergeRule
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Label, Project, Task
from maskloop_learner.pool.voices import labels_by_image, voices
from maskloop_learner.settings import Settings
from maskloop_queue.triggers import count_labels

START = datetime(2026, 1, 1, tzinfo=UTC)
RULES: tuple[MergeRule, ...] = ("latest", "majority", "staple")


@pytest.fixture
def project(pool: Pool) -> int:
    """Labels of every kind: twins of one image, several annotators, edits, skipped, deleted, broken, unknown."""
    dice = random.Random(5)
    number = add_project(pool, labels=("Tumor", "Cyst"))
    tasks = [add_task(pool, number, n, data=png_bytes(n % 9)) for n in range(1, 15)]
    with pool.write() as session:
        session.get_one(Task, tasks[0]).state = "failed"
        session.get_one(Task, tasks[1]).deleted_at = START
        for n in range(120):
            session.add(
                Label(
                    task_id=dice.choice(tasks),
                    ls_annotation_id=n,
                    current=dice.random() < 0.9,
                    cancelled=dice.random() < 0.1,
                    deleted=dice.random() < 0.1,
                    error="another size" if dice.random() < 0.1 else None,
                    author=dice.choice([None, "", "a", "b"]),
                    known=dice.choice([None, [], ["Cyst"], ["Gone"], ["Gone", "Tumor"]]),
                    ls_updated_at=START + timedelta(minutes=dice.randrange(20)),
                    created_at=START + timedelta(hours=n),
                )
            )
    return number


@pytest.mark.parametrize("rule", RULES)
def test_the_light_pass_finds_what_a_snapshot_would_merge(pool: Pool, project: int, rule: MergeRule) -> None:
    with pool.read() as session:
        whole = voices(session, project, rule)
        light = newest_briefs(session, project, rule)
        assert {image: [row.label.id for row in rows] for image, rows in whole.items()} == {
            image: [brief.id for brief in briefs] for image, briefs in light.items()
        }
        for image, rows in whole.items():
            for row, brief in zip(rows, light[image], strict=True):
                moments = row.label.ls_updated_at, row.label.created_at
                assert (brief.ls_updated_at, brief.created_at) == moments
        counted = count_labels(session, project, rule)
        assert counted.images == len(labels_by_image(session, project)) > 5
        assert len(counted.fresh) == sum(len(rows) for rows in whole.values())


def test_a_project_without_labels_in_its_config_has_none_to_learn_from(pool: Pool, project: int) -> None:
    with pool.write() as session:
        session.get_one(Project, project).control = {}
    with pool.read() as session:
        assert newest_briefs(session, project, "latest") == {} == voices(session, project, "latest")


def test_readiness_reads_the_labels_once(pool: Pool, settings: Settings, project: int) -> None:
    asked: list[str] = []

    def note(*about: object) -> None:
        if "FROM labels JOIN tasks" in str(about[2]):
            asked.append(str(about[2]))

    event.listen(pool.engine, "before_cursor_execute", note)
    with pool.read() as session:
        readiness(session, session.get_one(Project, project), settings)
    assert len(asked) == 1
