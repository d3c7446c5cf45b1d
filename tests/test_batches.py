"""Batches in the pool: one at a time, how their tasks stand, when they close, and which labels were made in them."""

import json
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from command_fixture import Command
from pool_fixture import add_label, add_model, add_project, add_task, png_bytes
from sqlalchemy import select
from test_sync import annotation, take
from web_fixture import add_prediction, add_version

from maskloop_backend.sync.annotations import drop_annotations
from maskloop_learner.pool.batches import (
    BatchError,
    create_batch,
    end_batch,
    find_batch,
    find_open,
    list_batches,
)
from maskloop_learner.pool.members import batch_scores, close_finished, count_states, members, tally
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import unscored
from maskloop_learner.pool.schema import Batch, Event, Label, Prediction, Snapshot, Task, utcnow
from maskloop_learner.pool.snapshot import freeze_snapshot, load_manifest
from maskloop_learner.select.candidates import Pick


@pytest.fixture
def project(pool: Pool) -> int:
    """A project with six tasks, 1 to 6 in Label Studio."""
    number = add_project(pool)
    for ls_id in range(1, 7):
        add_task(pool, number, ls_id)
    return number


def task_ids(pool: Pool, project: int) -> dict[int, int]:
    """Label Studio's id -> the pool's, of the first image of each task."""
    with pool.read() as session:
        rows = session.execute(select(Task.ls_id, Task.id).where(Task.project_id == project).order_by(Task.id.desc()))
        return {ls_id: number for ls_id, number in rows}  # noqa: C416 - typed rows


def open_batch(pool: Pool, project: int, ls_ids: Sequence[int], *, at: datetime | None = None) -> Batch:
    """A batch of these tasks, in this order, made now or at another time."""
    ids = task_ids(pool, project)
    picks = [
        Pick(id=ids[ls_id], slot="uncertain", score=0.5, reason=f"reason {ls_id}", figures={"rank": place})
        for place, ls_id in enumerate(ls_ids, 1)
    ]
    with pool.write() as session:
        batch = create_batch(
            session, project, picks, strategy="uncertainty", seed=3, options={"size": 2}, version_id=None, by="somebody"
        )
        if at is not None:
            batch.created_at = at
        return batch


def end(pool: Pool, batch: Batch, *, undo: bool = False, at: datetime | None = None) -> None:
    with pool.write() as session:
        end_batch(session, batch, "undone" if undo else "closed", by="somebody")
        if at is not None:
            session.get_one(Batch, batch.id).closed_at = at


def states(pool: Pool, batch: Batch) -> list[str]:
    with pool.read() as session:
        return [row.state for row in members(session, batch)]


def events(pool: Pool) -> list[tuple[str, str]]:
    with pool.read() as session:
        found = session.scalars(select(Event).where(Event.kind.like("batch.%")).order_by(Event.id))
        return [(row.kind, row.subject) for row in found]


def test_a_batch_keeps_its_order_and_its_reasons(pool: Pool, project: int) -> None:
    """And is the one that is found without a number."""
    batch = open_batch(pool, project, [4, 1, 6])
    with pool.read() as session:
        rows = members(session, batch)
        found = find_batch(session, project)
        assert batch_scores(session, project) == {4: 1e-15, 1: 2e-15, 6: 3e-15}
    assert [(row.position, row.ls_id, row.reason, row.figures) for row in rows] == [
        (1, 4, "reason 4", {"rank": 1}),
        (2, 1, "reason 1", {"rank": 2}),
        (3, 6, "reason 6", {"rank": 3}),
    ]
    assert (found.id, found.number, found.state, found.strategy, found.seed) == (batch.id, 1, "open", "uncertainty", 3)
    assert events(pool) == [("batch.created", "1")]


def test_a_second_open_batch_is_refused_and_one_after_it_is_not(pool: Pool, project: int) -> None:
    first = open_batch(pool, project, [1])
    with pytest.raises(BatchError, match=r"batch 1 of this project is open.*batch close"):
        open_batch(pool, project, [2])
    other = add_project(pool, ls_id=8)
    add_task(pool, other, 71)
    assert open_batch(pool, other, [71]).number == 1
    end(pool, first)
    assert open_batch(pool, project, [2]).number == 2
    with pool.read() as session:
        assert [row.state for row in list_batches(session, project)] == ["closed", "open"]


def test_of_two_who_open_a_batch_at_once_one_is_refused_by_the_database(pool: Pool, project: int) -> None:
    """With SQLite the second one waits and sees the first; with PostgreSQL the index refuses it."""
    start = threading.Barrier(4)
    outcomes: list[int | str] = []

    def ask(ls_id: int) -> None:
        start.wait()
        try:
            outcomes.append(open_batch(pool, project, [ls_id]).number)
        except BatchError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=ask, args=(ls_id,)) for ls_id in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [1]
    assert len([outcome for outcome in outcomes if isinstance(outcome, str) and "is open" in outcome]) == 3


def test_an_ended_batch_cannot_end_again(pool: Pool, project: int) -> None:
    """Also when the one who ends it still believes that it is open."""
    batch = open_batch(pool, project, [1, 2])
    end(pool, batch, undo=True)
    with pytest.raises(BatchError, match=r"batch 1 is undone since 2.*UTC; only an open one"):
        end(pool, batch)
    with pool.read() as session:
        assert find_open(session, project) is None
        assert find_batch(session, project).number == 1
        with pytest.raises(BatchError, match="no batch 7; it has 1 to 1"):
            find_batch(session, project, 7)
    assert events(pool) == [("batch.created", "1"), ("batch.undone", "1")]


def test_an_empty_batch_is_refused_and_so_is_one_that_is_not_there(pool: Pool, project: int) -> None:
    with pytest.raises(BatchError, match="at least one image"):
        open_batch(pool, project, [])
    with pool.read() as session, pytest.raises(BatchError, match="no batch yet"):
        find_batch(session, project)


def test_a_batch_closes_by_itself_when_no_task_of_it_waits(pool: Pool, project: int) -> None:
    """Labelled, skipped, unreadable, unpredictable and deleted tasks do not; a label that is deleted lets one wait."""
    ids = task_ids(pool, project)
    add_version(pool, project, add_model(pool, project), "v1")
    batch = open_batch(pool, project, [1, 2, 3, 4, 5])
    assert states(pool, batch) == ["waiting"] * 5
    take(pool, ids[1], annotation(1))
    add_label(pool, ids[2], cancelled=True)
    with pool.write() as session:
        session.get_one(Task, ids[3]).state = "failed"
        session.get_one(Task, ids[4]).deleted_at = utcnow()
    assert close_finished(pool, project) is None
    with pool.write() as session:
        digest = str(session.get_one(Task, ids[5]).image_digest)
        session.add(Prediction(version_id="v1", image_digest=digest, error="the image is damaged"))
    assert states(pool, batch) == ["labelled", "skipped", "failed", "deleted", "failed"]
    drop_annotations(pool, project, ids[1], [31])
    assert states(pool, batch)[0] == "waiting"
    assert close_finished(pool, project) is None
    take(pool, ids[1], annotation(2))
    assert close_finished(pool, project) == 1
    assert close_finished(pool, project) is None
    with pool.read() as session:
        assert find_batch(session, project).state == "closed"
        assert batch_scores(session, project) == {}
    assert events(pool)[-1] == ("batch.closed", "1")


def test_a_task_of_several_images_stands_as_a_whole(pool: Pool, project: int) -> None:
    """One image that cannot be read holds nothing up; a label of any of them is the task's."""
    add_task(pool, project, 1, data=png_bytes(99), part="late")
    batch = open_batch(pool, project, [1])
    first = task_ids(pool, project)[1]
    with pool.write() as session:
        session.get_one(Task, first).state = "failed"
    assert states(pool, batch) == ["waiting"]
    with pool.read() as session:
        late = session.scalars(select(Task.id).where(Task.ls_id == 1, Task.part == "late")).one()
    add_label(pool, late)
    assert states(pool, batch) == ["labelled"]
    with pool.write() as session:
        session.get_one(Task, late).deleted_at = utcnow()
    assert states(pool, batch) == ["failed"], "what has left the label config counts no more"


def test_a_label_belongs_to_the_batch_that_was_open_when_it_was_made(pool: Pool, project: int) -> None:
    """Whenever it is read; a later version and a deletion keep it, and so does undoing the batch."""
    ids = task_ids(pool, project)
    noon = annotation(0).created_at
    hour = timedelta(hours=1)
    first = open_batch(pool, project, [1, 2, 3], at=noon + hour)
    end(pool, first, undo=True, at=noon + 2 * hour)
    second = open_batch(pool, project, [3], at=noon + 3 * hour)
    made = {"before": 0, "in it": 90, "between": 150, "in the second": 200}
    for ls_id, (number, minute) in zip((1, 2, 3, 3), enumerate(made.values()), strict=True):
        moment = noon + timedelta(minutes=minute)
        take(pool, ids[ls_id], annotation(minute, id=number, created_at=moment, updated_at=moment))
    take(pool, ids[4], annotation(0, id=9, created_at=noon + 4 * hour))
    assert tags(pool) == {(0, 1): None, (1, 1): first.id, (2, 1): None, (3, 1): second.id, (9, 1): None}
    late = noon + 9 * hour
    take(pool, ids[2], annotation(90, id=1, box=6, created_at=noon + 90 * timedelta(minutes=1), updated_at=late))
    drop_annotations(pool, project, ids[3], [3])
    assert tags(pool)[1, 2] == first.id
    assert tags(pool)[3, 2] == second.id


def tags(pool: Pool) -> dict[tuple[int, int], int | None]:
    """(annotation, version) -> id of its batch."""
    with pool.read() as session:
        return {(row.ls_annotation_id, row.version): row.batch_id for row in session.scalars(select(Label))}


def test_what_the_open_batch_lacks_is_predicted_first(pool: Pool, project: int) -> None:
    """In its order; labelled tasks come last as ever."""
    add_version(pool, project, add_model(pool, project), "v1")
    ids = task_ids(pool, project)
    add_label(pool, ids[5])
    batch = open_batch(pool, project, [6, 5, 2])
    with pool.read() as session:
        digests = {ls_id: str(session.get_one(Task, number).image_digest) for ls_id, number in ids.items()}
        order = [question.image for question in unscored(session, project, "v1", limit=10)]
    assert order == [digests[ls_id] for ls_id in (6, 2, 1, 3, 4, 5)]
    add_prediction(pool, "v1", digests[6])
    end(pool, batch)
    with pool.read() as session:
        order = [question.image for question in unscored(session, project, "v1", limit=10)]
    assert order == [digests[ls_id] for ls_id in (1, 2, 3, 4, 5)]


def test_a_snapshot_and_an_export_say_which_batch_a_label_was_made_in(
    pool: Pool, project: int, command: Command, tmp_path: Path
) -> None:
    """By the batch's number and strategy; of a label made outside any, a snapshot says what it said before."""
    ids = task_ids(pool, project)
    batch = open_batch(pool, project, [2, 3], at=annotation(0).created_at)
    take(pool, ids[1], annotation(1))
    take(pool, ids[2], annotation(2, id=32))
    end(pool, batch, undo=True)
    freeze_snapshot(pool, project, share=0.5)
    with pool.read() as session:
        manifest = load_manifest(pool, session.scalars(select(Snapshot)).one())
    voices = {item["ls_task"]: dict(item["annotations"][0]) for item in manifest["items"]}
    assert (voices[2]["batch"], voices[2]["strategy"]) == (1, "uncertainty")
    assert sorted(voices[1]) == ["annotation", "author", "label", "version"]
    assert command("export", str(tmp_path / "out"), "--format", "pairs")[0] == 0
    items = json.loads((tmp_path / "out" / "manifest.json").read_text())["items"]
    assert {row["task"]: (row["batch"], row["strategy"]) for row in items} == {
        1: (None, None),
        2: (1, "uncertainty"),
    }


def test_batches_are_counted_together_as_each_is_alone(pool: Pool, project: int) -> None:
    """With labelled, skipped, deleted and failed tasks, one of them of two images."""
    ids = task_ids(pool, project)
    add_task(pool, project, 5, data=png_bytes(99), part="other")
    first = open_batch(pool, project, [1, 2, 3])
    end(pool, first)
    second = open_batch(pool, project, [3, 4, 5, 6])
    add_label(pool, ids[1])
    add_label(pool, ids[4], cancelled=True)
    with pool.write() as session:
        session.get_one(Task, ids[3]).deleted_at = utcnow()
        session.get_one(Task, ids[5]).state = "failed"
        session.get_one(Task, ids[6]).state = "failed"
    with pool.read() as session:
        found = tally(session, [first, second])
        assert found == {batch.id: count_states(members(session, batch)) for batch in (first, second)}
        assert found[second.id] == {"waiting": 1, "labelled": 0, "skipped": 1, "failed": 1, "deleted": 1}
        assert tally(session, []) == {}
