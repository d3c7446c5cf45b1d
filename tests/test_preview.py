"""`maskloop train --preview`: the coming snapshot in figures, and nothing is written."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command_fixture import Command
from pool_fixture import add_label, add_model, add_project, add_task
from sqlalchemy import select

from maskloop_backend.cli.preview import preview
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Base, Label, Project, Round, Snapshot, Task
from maskloop_learner.pool.snapshot import freeze_snapshot
from maskloop_learner.settings import Settings
from maskloop_queue.triggers import request_training


@pytest.fixture
def project(pool: Pool) -> int:
    """Twelve labelled images of four patients; one image has two annotators, one no tumor, none a cyst."""
    project = add_project(pool, labels=("Tumor", "Cyst"))
    for number in range(12):
        label = add_label(pool, add_task(pool, project, number + 1), minute=number)
        with pool.write() as session:
            row = session.get_one(Label, label)
            row.author = "ann@example.org"
            if number == 3:
                row.masks = {}
            if number == 4:
                session.add(
                    Label(
                        task_id=row.task_id,
                        ls_annotation_id=9,
                        author="ben@example.org",
                        masks={},
                        ls_updated_at=row.ls_updated_at,
                    )
                )
            session.get_one(Task, row.task_id).data = {"patient": f"P{number // 3}"}
    with pool.write() as session:
        session.get_one(Project, project).grouping = {"field": "patient"}
    return project


def everything(pool: Pool, home: Path) -> str:
    """A digest of all rows of the pool and all files of the store."""
    state = hashlib.sha256()
    with pool.engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            state.update(repr((table.name, connection.execute(select(table)).all())).encode())
    for path in sorted((home / "store").rglob("*")):
        state.update(f"{path} {path.stat().st_mtime_ns}".encode())
    return state.hexdigest()


def test_the_preview_writes_nothing(pool: Pool, project: int, settings: Settings, command: Command) -> None:
    """Neither a row nor a file, masks that would be merged and looks that would be kept included."""
    settings.merge_rule = "majority"
    before = everything(pool, settings.home)
    assert preview(pool, project, settings)["merged"] == 1
    for words in ((), ("--json",)):
        code, _, said = command("train", "--preview", *words)
        assert code == 0, said
    assert everything(pool, settings.home) == before


def test_the_preview_is_the_snapshot_that_is_frozen(pool: Pool, project: int, settings: Settings) -> None:
    settings.merge_rule = "majority"
    for _ in range(2):
        found = preview(pool, project, settings)
        snapshot = freeze_snapshot(pool, project, share=settings.validation_share, merge="majority")
        with pool.read() as session:
            assert session.get_one(Snapshot, snapshot).digest == found["digest"]
    assert found["new"] == {"train": 0, "validation": 0, "annotations": 0, "gone": 0}


def test_labels_and_split_are_counted(
    pool: Pool, project: int, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKLOOP_TRIGGER_QUIET", "3600")
    code, out, _ = command("train", "--preview", "--json")
    found = json.loads(out)
    assert code == 0
    # Ann's mask of the fifth image is hidden by ben's empty one: the newest counts.
    assert found["labels"]["Tumor"] == {"drawn": 10, "empty": 2, "unknown": 0}
    assert found["labels"]["Cyst"] == {"drawn": 0, "empty": 12, "unknown": 0}
    assert found["annotators"] == {"ann@example.org": 11, "ben@example.org": 1}
    assert found["split"] == {
        "train": {"images": 9, "groups": 3, "blind": 0},
        "validation": {"images": 3, "groups": 1, "blind": 0},
    }
    assert found["new"] == {"train": 9, "validation": 3, "annotations": 12, "gone": 0}
    assert found["due"] is None
    assert found["why"].startswith("12 new labels are enough, and the training starts when none has come for 3600 s")
    assert any("'Cyst' is on no image that validates" in warning for warning in found["warnings"])
    code, out, _ = command("train", "--preview")
    for line in ("train: 9 images of 3 groups (9 new).", "How long: unknown: no training has run here"):
        assert line in out


def test_why_now(pool: Pool, project: int, settings: Settings) -> None:
    assert preview(pool, project, settings)["due"] == "labels"
    assert preview(pool, project, settings)["why"] == "12 new labels, and 10 start a training"
    settings.trigger_labels = 50
    assert preview(pool, project, settings)["why"].startswith("nothing is due: 12 new labels, 50 start a training")
    settings.trigger_labels = 0
    assert "labels alone start no training" in preview(pool, project, settings)["why"]
    request_training(pool, project, cause="button")
    assert preview(pool, project, settings)["due"] == "button"
    snapshot = freeze_snapshot(pool, project, share=0.2)
    with pool.write() as session:
        session.add(Round(project_id=project, snapshot_id=snapshot, cause="button", state="running"))
    found = preview(pool, project, settings)
    assert (found["due"], found["why"]) == (None, "round 1 is running: one training at a time")


def test_how_long_is_measured(pool: Pool, project: int, settings: Settings) -> None:
    """Median of the trainings of this backbone that went through in one go."""
    settings.train_steps = 300
    began = datetime(2026, 1, 1, tzinfo=UTC)
    snapshot = freeze_snapshot(pool, project, share=0.2)
    for seconds, attempts in ((100, 1), (200, 1), (400, 1), (9000, 2)):
        model = add_model(pool, project)
        with pool.write() as session:
            row = Round(project_id=project, snapshot_id=snapshot, cause="labels", state="rejected", model_id=model)
            row.attempts, row.progress = attempts, {"step": 100, "steps": 100}
            row.started_at, row.ended_at = began, began + timedelta(seconds=seconds)
            session.add(row)
    assert preview(pool, project, settings)["seconds"] == 600
    settings.backbone = "clip-vit-b16"
    assert preview(pool, project, settings)["seconds"] is None


def test_a_project_without_labels_is_one_line(pool: Pool, command: Command) -> None:
    add_project(pool)
    code, _, said = command("train", "--preview")
    assert code == 1
    assert "no label to learn from" in said
