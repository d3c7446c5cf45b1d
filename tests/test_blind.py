"""Blind images: chosen by whole groups when they are taken in, shown no mask, and kept for validation."""

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pool_fixture import add_label, add_model, add_project, add_task, png_bytes
from sqlalchemy import select, update
from test_pushes import add_pushed
from test_sync import Peer, running
from web_fixture import add_prediction, add_version

from maskloop_backend.intake import Wanted, _mark_ready
from maskloop_backend.labelstudio.client import TaskRow
from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.sync import work
from maskloop_backend.sync.pull import Pulled, Puller
from maskloop_backend.sync.push import Pusher
from maskloop_backend.web.answers import Answers, Served
from maskloop_backend.web.asked import Asked, View
from maskloop_learner.pool.groups import choose_blind
from maskloop_learner.pool.images import probe_image
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import Question, ranking
from maskloop_learner.pool.schema import Label, Project, Push, Snapshot, Task, utcnow
from maskloop_learner.pool.snapshot import freeze_snapshot, load_manifest

DAY = timedelta(hours=24)


@pytest.fixture
def project(pool: Pool) -> int:
    """A project of patients with version v1, of which a fifth is to be blind."""
    number = add_project(pool, ls_id=1)
    add_version(pool, number, add_model(pool, number), "v1")
    set_share(pool, number, 0.2)
    return number


def set_share(pool: Pool, project: int, share: float) -> None:
    with pool.write() as session:
        row = session.get_one(Project, project)
        row.grouping, row.blind_share = {"field": "patient"}, share


def take_in(pool: Pool, project: int, patients: dict[int, str]) -> None:
    """What sync does with these tasks (number in Label Studio -> patient)."""
    puller = Puller(pool=pool, client=None, settings=None, headers_for=lambda url: {}, beat=lambda: None)  # type: ignore[arg-type]
    heads = [
        TaskRow(id=ls_id, data={"image": f"/{ls_id}.png", "patient": patient}, updated_at=utcnow(), annotations=())
        for ls_id, patient in patients.items()
    ]
    with pool.read() as session:
        row = session.get_one(Project, project)
    puller._take_tasks(row, heads, Pulled())


def blind(pool: Pool) -> set[int]:
    """Numbers of blind tasks."""
    with pool.read() as session:
        return set(session.scalars(select(Task.ls_id).where(Task.blind)))


def make_blind(pool: Pool, *tasks: int) -> None:
    with pool.write() as session:
        session.execute(update(Task).where(Task.id.in_(tasks)).values(blind=True))


def test_whole_patients_are_blind_from_the_start(pool: Pool, project: int) -> None:
    """About a fifth of two hundred; the choice follows from the patient alone, so later images follow it."""
    take_in(pool, project, {100 + number: f"P{number // 2}" for number in range(400)})
    chosen = blind(pool)
    patients = {(ls_id - 100) // 2 for ls_id in chosen}
    assert len(chosen) == 2 * len(patients)
    assert 20 <= len(patients) <= 60
    take_in(pool, project, {1000 + number: f"P{number}" for number in range(200)})
    assert {ls_id - 1000 for ls_id in blind(pool) - chosen} == patients


def test_without_a_share_nothing_is_blind(pool: Pool, project: int) -> None:
    set_share(pool, project, 0.0)
    take_in(pool, project, {number: f"P{number}" for number in range(1, 100)})
    assert blind(pool) == set()


def test_another_share_changes_only_patients_that_nobody_has_drawn_on(pool: Pool, project: int) -> None:
    """Also one whose label was deleted since: its mask was seen."""
    take_in(pool, project, {number: f"P{number % 40}" for number in range(1, 121)})
    before = blind(pool)
    with pool.write() as session:
        tasks = {task.ls_id: task.id for task in session.scalars(select(Task))}
        drawn = [ls_id for ls_id in tasks if ls_id % 40 < 10 and ls_id < 40]
        for ls_id in drawn:
            session.add(Label(task_id=tasks[ls_id], ls_annotation_id=ls_id, deleted=True, ls_updated_at=utcnow()))
    settled = {ls_id for ls_id in tasks if ls_id % 40 in {other % 40 for other in drawn}}
    for share in (0.5, 0.0):
        set_share(pool, project, share)
        work.follow_grouping(pool, project)
        assert blind(pool) & settled == before & settled
    assert blind(pool) == before & settled
    assert before & settled
    late = {1000 + ls_id: f"P{ls_id % 40}" for ls_id in before & settled}
    take_in(pool, project, late)
    assert blind(pool) == (before & settled) | set(late), "a blind patient stays blind whatever the share is now"


def test_all_images_of_a_task_are_blind_or_none(pool: Pool, project: int) -> None:
    with pool.write() as session:
        session.get_one(Project, project).grouping = {}
    for ls_id in range(1, 60):
        for number, part in enumerate(("before", "after")):
            add_task(pool, project, ls_id, data=png_bytes(number), part=part)
    with pool.write() as session:
        assert choose_blind(session, session.get_one(Project, project)) > 0
        rows = session.execute(select(Task.ls_id, Task.blind)).all()
    assert len({(ls_id, is_blind) for ls_id, is_blind in rows}) == 59


def test_a_task_that_predict_takes_in_is_chosen_too(pool: Pool, project: int) -> None:
    set_share(pool, project, 0.5)
    for ls_id in range(1, 21):
        content = png_bytes(ls_id)
        info = probe_image(content, max_megapixels=1, name="x")
        wanted = Wanted(project, "http://127.0.0.1:1", ls_id, "image", {"image": "/x.png", "patient": f"P{ls_id}"})
        _mark_ready(pool, wanted, "/x.png", pool.store.put("images", content), info, len(content))
    found = blind(pool)
    assert 0 < len(found) < 20
    work.follow_grouping(pool, project)
    assert blind(pool) == found


def pusher(pool: Pool, client: Any = None) -> Pusher:
    return Pusher(pool=pool, client=client, beat=lambda: None)


def rows_to_push(pool: Pool, project: int) -> dict[int, dict[str, Any]]:
    with pool.read() as session:
        row = session.get_one(Project, project)
    [rows] = pusher(pool)._chunks(row, pusher(pool)._ready(project, "v1"))
    return {row["task"]: row for row in rows}


def test_a_blind_task_is_pushed_in_its_place_without_a_mask(pool: Pool, project: int) -> None:
    """So Label Studio serves it by its uncertainty, and it is in the ranking."""
    for ls_id, uncertainty in ((1, 0.2), (2, 0.7)):
        task = add_task(pool, project, ls_id)
        with pool.read() as session:
            digest = str(session.get_one(Task, task).image_digest)
        add_prediction(pool, "v1", digest, uncertainty=uncertainty)
    make_blind(pool, task)
    rows = rows_to_push(pool, project)
    assert rows[2] == {"task": 2, "result": [], "score": 0.3, "model_version": "v1"}
    assert len(rows[1]["result"]) == 1
    with pool.read() as session:
        assert [found.ls_id for found in ranking(session, project, "v1")] == [2, 1]
        assert work.waiting_tasks(session, project, "v1") == 0


def test_masks_that_are_there_are_taken_back_when_a_task_becomes_blind(pool: Pool, project: int) -> None:
    """And pushed again without; the other way round too."""
    peer = Peer()
    for ls_id in range(1, 31):
        add_pushed(pool, project, peer, ls_id)
    set_share(pool, project, 0.3)
    with pool.write() as session:
        session.get_one(Project, project).grouping = {}
    work.follow_grouping(pool, project)
    chosen = blind(pool)
    assert chosen
    with running(peer) as client:
        assert pusher(pool, client).withdraw(project, "v1", open_for=DAY)
        assert {ls_id for ls_id, _ in peer.predictions.values()} == set(range(1, 31)) - chosen
        rows = rows_to_push(pool, project)
        assert {ls_id: row["result"] for ls_id, row in rows.items()} == {ls_id: [] for ls_id in chosen}
        for ls_id in chosen:
            peer.predictions[1000 + ls_id] = (ls_id, "v1")
        with pool.read() as session:
            row = session.get_one(Project, project)
        assert pusher(pool, client).adopt(row, "v1", sorted(chosen)) >= chosen
        assert pusher(pool)._ready(project, "v1") == []
        set_share(pool, project, 0.0)
        work.follow_grouping(pool, project)
        assert pusher(pool, client).withdraw(project, "v1", open_for=DAY)
    assert {ls_id for ls_id, _ in peer.predictions.values()} == set(range(1, 31)) - chosen
    assert all(row["result"] for row in rows_to_push(pool, project).values())


def ask(web: httpx.Client, ls_id: int, context: dict[str, Any] | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {"tasks": [{"id": ls_id, "data": {"image": "/x.png"}}], "project": "1.1"}
    if context is not None:
        body["params"] = {"context": context}
    [result] = web.post("/predict", content=json.dumps(body)).json()["results"]
    return dict(result)


def test_predict_shows_no_mask_of_a_blind_task(pool: Pool, project: int, web: httpx.Client) -> None:
    """Though the same image in another task is answered with its mask, before and after."""
    tasks = [add_task(pool, project, ls_id, data=png_bytes(1)) for ls_id in (5, 6, 7)]
    with pool.read() as session:
        digest = str(session.get_one(Task, tasks[0]).image_digest)
    add_prediction(pool, "v1", digest, uncertainty=0.25)
    make_blind(pool, tasks[1])
    for _ in range(2):
        assert [len(ask(web, ls_id)["result"]) for ls_id in (5, 6, 7)] == [1, 0, 1]
    assert ask(web, 6) == {"result": [], "score": 0.75, "model_version": "v1"}


def test_a_task_that_was_taken_in_meanwhile_is_looked_up(pool: Pool, project: int) -> None:
    """/predict knows nothing of it when the request begins."""
    task = add_task(pool, project, 5)
    make_blind(pool, task)
    with pool.read() as session:
        digest = str(session.get_one(Task, task).image_digest)
        interface = Interface.from_json(session.get_one(Project, project).control)
    add_prediction(pool, "v1", digest)
    item = Asked(0, 5, views=[View("image", Question(digest))])
    Answers(pool).collect(Served(project, "http://127.0.0.1:1", interface, "v1"), [item])
    assert item.reply is not None
    assert json.loads(item.reply)["result"] == []


def test_blind_patients_validate(pool: Pool, project: int) -> None:
    """All that are labelled, beyond the share; their items say so."""
    for number in range(10):
        for place in range(2):
            task = add_task(pool, project, 10 * number + place + 1)
            with pool.write() as session:
                session.get_one(Task, task).data = {"patient": f"P{number}"}
            add_label(pool, task)
            if number in (2, 5, 8):
                make_blind(pool, task)
    with pool.read() as session:
        manifest = load_manifest(pool, session.get_one(Snapshot, freeze_snapshot(pool, project, share=0.1)))
    assert {item["group"] for item in manifest["items"] if item["split"] == "validation"} == {"P2", "P5", "P8"}
    assert all(item.get("blind", False) == (item["split"] == "validation") for item in manifest["items"])


def test_a_label_of_a_blind_task_leaves_its_prediction(pool: Pool, project: int) -> None:
    """What is labelled is not taken back, whatever the share becomes."""
    peer = Peer()
    task = add_pushed(pool, project, peer, 5)
    add_label(pool, task)
    set_share(pool, project, 0.5)
    work.follow_grouping(pool, project)
    with pool.read() as session:
        assert not session.get_one(Task, task).blind
        assert session.scalars(select(Push.stale)).all() == [""]
