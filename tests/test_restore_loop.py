"""A backup of a running demo, brought back on an empty machine: the loop goes on, and no label is lost."""

import shutil
from pathlib import Path

import pytest
from demo_fixture import Demo, make_demo, wait_for
from sqlalchemy import func, select

from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_learner.pool.schema import Event, Label, Round, Task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def unlabelled(demo: Demo, client: LabelStudio, count: int) -> list[int]:
    """Tasks that nobody has labelled or opened."""
    busy = client.busy_tasks(demo.ls_id)
    return [row.ls_id for row in demo.ranking() if row.ls_id not in busy][:count]


def labels_of(demo: Demo) -> int:
    """How many current labels the pool has."""
    with demo.pool.read() as session:
        statement = select(func.count(Label.id)).join(Task, Task.id == Label.task_id)
        return session.scalar(statement.where(Label.current, ~Label.cancelled, Task.deleted_at.is_(None))) or 0


def test_the_loop_goes_on_after_a_restore(tmp_path: Path) -> None:
    """Labels, and a whole model with its predictions, are newer than the backup: Label Studio gives the labels back,
    what it has of the lost model goes, and the next training learns from all."""
    demo = make_demo(tmp_path / "first", MASKLOOP_TRIGGER_LABELS="0")
    restored: Demo | None = None
    try:
        demo.start()
        demo.settle()
        with demo.client() as client:
            for task in unlabelled(demo, client, 2):
                demo.answer(client, task)
            wait_for("the labels in the pool", lambda: labels_of(demo) == 10, 120)
            done = demo.command("backup", str(tmp_path / "backup"), "--json")
            assert done.returncode == 0, done.stderr
            before = demo.version()
            for task in unlabelled(demo, client, 3):
                demo.answer(client, task)
            assert demo.command("train").returncode == 0
            wait_for("a new model", lambda: demo.version() != before, 300)
            demo.settle()
            lost = demo.version()
            assert client.project(demo.ls_id).model_version == lost
        demo.stop()
        demo.pool.close()

        ports = {name: value for name, value in demo.env.items() if name.endswith("PORT")}
        restored = make_demo(tmp_path / "second", MASKLOOP_TRIGGER_LABELS="0", **ports)
        restored.port, restored.label_studio_port, restored.url = demo.port, demo.label_studio_port, demo.url
        restored.settings = demo.settings.model_copy(update={"home": restored.home})
        restored.home.mkdir()
        brought = restored.command("restore", str(tmp_path / "backup"))
        assert brought.returncode == 0, brought.stderr
        # Label Studio is another machine's: its data were not lost. All of Maskloop's are.
        shutil.copytree(demo.home / "demo", restored.home / "demo")
        shutil.rmtree(demo.home)

        restored.start()
        assert restored.version() == before
        seconds = restored.settle(420)
        print(f"at rest {seconds:.0f} s after the restore")
        assert labels_of(restored) == 13
        with restored.client() as client, restored.pool.read() as session:
            assert client.project(restored.ls_id).model_version == before
            assert session.scalars(select(Event.kind).where(Event.kind == "pool.restored")).all() == ["pool.restored"]
            assert session.scalars(select(Round.state).where(Round.ended_at.is_(None))).all() == []
        trained = restored.command("train")
        assert trained.returncode == 0, trained.stderr
        wait_for("a model that knows all labels", lambda: restored.version() != before, 300)
        restored.settle(420)
        assert restored.command("doctor").returncode == 0
    finally:
        demo.stop()
        if restored is not None:
            restored.stop()
