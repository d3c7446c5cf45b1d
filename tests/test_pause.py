"""A schedule that is paused: labels and the clock start no training, a person does, and nothing is forgotten."""

import json
from datetime import timedelta
from typing import Any

import pytest
from command_fixture import Command
from pool_fixture import add_label, add_project, add_task
from sqlalchemy import select

from maskloop_backend.readiness import readiness
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Event, Label, Project, Round, utcnow
from maskloop_learner.pool.snapshot import freeze_snapshot
from maskloop_learner.settings import Settings
from maskloop_queue import triggers
from maskloop_queue.pause import pause_schedule, resume_schedule
from maskloop_queue.triggers import request_training, start_due_round


@pytest.fixture
def project(pool: Pool, settings: Settings) -> int:
    """Three labels, of which three start a training."""
    settings.trigger_labels = 3
    number = add_project(pool)
    for task in range(1, 4):
        add_label(pool, add_task(pool, number, task))
    return number


def rounds(pool: Pool) -> list[tuple[str, str]]:
    with pool.read() as session:
        return [(row.cause, row.state) for row in session.scalars(select(Round).order_by(Round.id))]


def test_labels_start_no_training_until_the_schedule_is_resumed(pool: Pool, settings: Settings, project: int) -> None:
    assert pause_schedule(pool, project, by="a test")
    assert start_due_round(pool, project, settings) is None
    assert resume_schedule(pool, project, by="a test")
    assert start_due_round(pool, project, settings) == 1
    assert rounds(pool) == [("labels", "queued")]


def test_the_clock_starts_none_either_and_is_made_up_for(pool: Pool, settings: Settings, project: int) -> None:
    settings.trigger_labels, settings.trigger_cron = 0, "* * * * *"
    with pool.write() as session:
        early = utcnow() - timedelta(hours=1)
        session.get_one(Project, project).created_at = early
        for label in session.scalars(select(Label)):
            label.created_at = label.ls_updated_at = early
    pause_schedule(pool, project, by="a test")
    assert start_due_round(pool, project, settings) is None
    resume_schedule(pool, project, by="a test")
    assert start_due_round(pool, project, settings) == 1
    assert rounds(pool) == [("cron", "queued")]


def test_a_person_is_answered_all_the_same(pool: Pool, settings: Settings, project: int) -> None:
    pause_schedule(pool, project, by="a test")
    request_training(pool, project, cause="cli")
    assert start_due_round(pool, project, settings) == 1
    assert rounds(pool) == [("cli", "queued")]


def test_a_pause_is_of_one_project(pool: Pool, settings: Settings, project: int) -> None:
    other = add_project(pool, ls_id=8)
    pause_schedule(pool, other, by="a test")
    assert start_due_round(pool, project, settings) == 1


def test_a_pause_that_comes_while_the_snapshot_is_frozen_counts(
    pool: Pool, settings: Settings, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def freeze(pool: Pool, project_id: int, **how: Any) -> int:
        frozen = freeze_snapshot(pool, project_id, **how)
        pause_schedule(pool, project_id, by="a test")
        return frozen

    monkeypatch.setattr(triggers, "freeze_snapshot", freeze)
    assert start_due_round(pool, project, settings) is None
    assert rounds(pool) == []


def test_it_is_kept_and_told(pool: Pool, settings: Settings, project: int) -> None:
    """Twice is once; a pool that is opened again knows it; the log says who it was."""
    assert pause_schedule(pool, project, by="a test")
    assert not pause_schedule(pool, project, by="somebody else")
    again = Pool.open(settings)
    with again.read() as session:
        row = session.get_one(Project, project)
        assert row.paused_at is not None
        assert row.paused_by == "a test"
        found = readiness(session, row, settings)
    again.close()
    assert found.paused_at == row.paused_at
    assert "the schedule is paused" in found.needs[0].what
    assert resume_schedule(pool, project, by="a test")
    assert not resume_schedule(pool, project, by="a test")
    with pool.read() as session:
        told = session.execute(select(Event.kind, Event.data).where(Event.kind.startswith("schedule."))).all()
    assert [tuple(row) for row in told] == [
        ("schedule.paused", {"by": "a test"}),
        ("schedule.resumed", {"by": "a test"}),
    ]


def test_the_commands_and_what_status_says(command: Command, pool: Pool, project: int) -> None:
    assert command("pause", "9")[0] == 1
    code, said, _ = command("pause")
    assert code == 0
    assert said == "The schedule of project 7 (test) is paused; `maskloop resume` ends that.\n"
    assert "was paused already" in command("pause", "7")[1]
    said = command("status")[1]
    assert "next training  when somebody asks for it: the schedule is paused since 20" in said
    assert "UTC by the pause command" in said
    found = json.loads(command("status", "--json")[1])[0]
    assert (found["paused_by"], found["paused_at"] is None) == ("the pause command", False)
    why = json.loads(command("train", "--preview", "--json")[1])
    assert why["due"] is None
    assert "neither labels nor the clock start a training; `maskloop train` does" in why["why"]
    assert json.loads(command("resume", "test", "--json")[1]) == {"project": 7, "paused": False, "changed": True}
    assert "was not paused" in command("resume")[1]
    assert "paused" not in command("status")[1]
