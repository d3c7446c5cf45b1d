"""Predictions in Label Studio that say no longer what the pool says: which are taken back, when, and made anew."""

from datetime import timedelta
from typing import Any

import pytest
from pool_fixture import TUMOR, add_label, add_model, add_project, add_task, png_bytes
from sqlalchemy import select
from test_sync import MONDAY, Peer, annotation, held, running, take
from web_fixture import add_prediction, add_version

from maskloop_backend.intake import Wanted, _mark_failed, _mark_ready
from maskloop_backend.labelstudio.client import TaskRow
from maskloop_backend.labelstudio.controls import Control, Interface, PromptTag
from maskloop_backend.sync.pull import Pulled, Puller
from maskloop_backend.sync.push import Pusher
from maskloop_learner.pool.images import ImageError, probe_image
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.prompting import set_prompts
from maskloop_learner.pool.pushes import Why, mark_stale
from maskloop_learner.pool.schema import Project, Push, Task
from maskloop_learner.settings import Settings

DAY = timedelta(hours=24)


@pytest.fixture
def project(pool: Pool) -> int:
    """A project with version v1, and the template of its label takes the task's size."""
    number = add_project(pool)
    with pool.write() as session:
        session.get_one(Project, number).prompts = {"Tumor": "[{size} ]tumor in an image"}
    add_version(pool, number, add_model(pool, number), "v1")
    return number


def add_pushed(pool: Pool, project: int, peer: Peer, ls_id: int, *versions: str) -> int:
    """A task whose predictions are in Label Studio; returns its id in the pool."""
    number = add_task(pool, project, ls_id)
    with pool.read() as session:
        digest = str(session.get_one(Task, number).image_digest)
    add_prediction(pool, "v1", digest)
    for place, version in enumerate(versions or ("v1",)):
        push = Push(ls_prediction_id=10 * ls_id + place, project_id=project, task_id=number, version_id=version)
        peer.predictions[push.ls_prediction_id] = (ls_id, version)
        with pool.write() as session:
            session.add(push)
    return number


def mark(pool: Pool, task: int, why: Why) -> None:
    with pool.write() as session:
        mark_stale(session, session.get_one(Task, task), why)


def ask_anew(pool: Pool, task: int, why: Why) -> None:
    """Another size in the task's data, as an edit brings it."""
    with pool.write() as session:
        row = session.get_one(Task, task)
        row.data = {"size": "small"}
        assert set_prompts(session, session.get_one(Project, row.project_id), row)
        mark_stale(session, row, why)


def predict(pool: Pool, task: int) -> None:
    """What the task's image is asked now is predicted."""
    with pool.read() as session:
        row = session.get_one(Task, task)
    add_prediction(pool, "v1", str(row.image_digest), prompts=row.prompt_digest)


def stale(pool: Pool) -> dict[int, str]:
    with pool.read() as session:
        return {row.ls_prediction_id: row.stale for row in session.scalars(select(Push)) if row.stale}


def test_predictions_of_a_replaced_image_go_at_once(pool: Pool, project: int) -> None:
    """Of all versions, also while somebody has the task open: the mask is that of another image."""
    peer = Peer()
    task, other = add_pushed(pool, project, peer, 5, "v0", "v1"), add_pushed(pool, project, peer, 6)
    peer.locked = [5]
    mark(pool, task, "image")
    mark(pool, task, "prompts")
    assert stale(pool) == {50: "image", 51: "image"}
    with running(peer) as client:
        pusher = Pusher(pool=pool, client=client, beat=lambda: None)
        assert pusher.withdraw(project, "v1", open_for=DAY)
    assert sorted(peer.predictions) == [60]
    assert held(pool) == {60: other}
    assert stale(pool) == {}


def test_a_prediction_stays_until_what_replaces_it_is_there_and_nobody_has_it_open(pool: Pool, project: int) -> None:
    peer = Peer()
    task = add_pushed(pool, project, peer, 5, "v0", "v1")
    ask_anew(pool, task, "prompts")
    with running(peer) as client:
        pusher = Pusher(pool=pool, client=client, beat=lambda: None)
        assert pusher.withdraw(project, "v1", open_for=DAY)
        assert sorted(peer.predictions) == [50, 51], "nothing replaces it yet"
        predict(pool, task)
        assert pusher._ready(project, "v1") == []
        peer.locked = [5]
        assert pusher.withdraw(project, "v1", open_for=DAY)
        assert sorted(peer.predictions) == [50, 51], "somebody has it open"
        peer.locked = []
        assert pusher.withdraw(project, "v1", open_for=DAY)
        assert sorted(peer.predictions) == [50], "an earlier version's is served no more"
        [ready] = pusher._ready(project, "v1")
    with pool.read() as session:
        assert ready.parts[0][1].prompt_digest == session.get_one(Task, task).prompt_digest != ""


def test_a_prediction_on_which_a_prompt_was_typed_stays_as_long_as_a_tab_may_be_open(pool: Pool, project: int) -> None:
    peer = Peer()
    task = add_pushed(pool, project, peer, 5)
    ask_anew(pool, task, "typed")
    predict(pool, task)
    with running(peer) as client:
        pusher = Pusher(pool=pool, client=client, beat=lambda: None)
        assert pusher.withdraw(project, "v1", open_for=DAY)
        assert sorted(peer.predictions) == [50]
        assert pusher.withdraw(project, "v1", open_for=timedelta(0))
    assert peer.predictions == {}


def test_a_labelled_tasks_prediction_stays(pool: Pool, project: int) -> None:
    """It is what the annotator saw, and no other would be pushed."""
    peer = Peer()
    task = add_pushed(pool, project, peer, 5)
    ask_anew(pool, task, "prompts")
    predict(pool, task)
    add_label(pool, task)
    with running(peer) as client:
        assert Pusher(pool=pool, client=client, beat=lambda: None).withdraw(project, "v1", open_for=DAY)
    assert sorted(peer.predictions) == [50]


def test_an_image_that_can_be_read_after_all_joins_its_tasks_prediction(pool: Pool, project: int) -> None:
    """The task was pushed with its other image alone, and is pushed again with both."""
    two = (Control("brush", "one", "a", "image", ("Tumor",)), Control("brush", "two", "b", "late", ("Tumor",)))
    with pool.write() as session:
        session.get_one(Project, project).control = Interface(two).as_json()
    peer = Peer()
    add_pushed(pool, project, peer, 5)
    content = png_bytes(77)
    wanted = Wanted(project, "http://127.0.0.1:1", 5, "late", {"late": "/late.png"})
    _mark_failed(pool, wanted, "/late.png", ImageError("it is a text"))
    with running(peer) as client:
        pusher = Pusher(pool=pool, client=client, beat=lambda: None)
        digest = pool.store.put("images", content)
        info = probe_image(content, max_megapixels=1, name="late.png")
        _mark_ready(pool, wanted, "/late.png", digest, info, len(content))
        assert stale(pool) == {50: "part"}
        with pool.read() as session:
            late = session.scalars(select(Task.id).where(Task.part == "late")).one()
        predict(pool, late)
        assert pusher.withdraw(project, "v1", open_for=DAY)
        [ready] = pusher._ready(project, "v1")
    assert [part for part, _ in ready.parts] == ["image", "late"]


def test_an_edit_of_a_tasks_data_is_not_forgotten_in_a_crash(pool: Pool, project: int) -> None:
    """It is noted in the very transaction that takes the data in; the same data again note nothing."""
    peer = Peer()
    for ls_id in (5, 6):
        add_pushed(pool, project, peer, ls_id)
    none: Any = None
    settings = Settings(home=pool.store.url)
    puller = Puller(pool=pool, client=none, settings=settings, headers_for=lambda url: {}, beat=lambda: None)
    with pool.read() as session:
        row = session.get_one(Project, project)
    same = {"image": "/data/upload/1/5.png"}
    puller._take_tasks(row, [TaskRow(5, MONDAY, (), same)], Pulled())
    assert stale(pool) == {}
    heads = [TaskRow(5, MONDAY, (), {**same, "size": "small"}), TaskRow(6, MONDAY, (), {"image": "/data/other.png"})]
    puller._take_tasks(row, heads, Pulled())
    assert stale(pool) == {50: "prompts", 60: "image"}
    peer.server_close()


def test_words_in_an_annotation_make_the_prediction_stale(pool: Pool, project: int) -> None:
    with pool.write() as session:
        tags = Interface((TUMOR,), (PromptTag("prompt", "image", "image"),))
        session.get_one(Project, project).control = tags.as_json()
    peer = Peer()
    task = add_pushed(pool, project, peer, 5)
    words = {"type": "textarea", "from_name": "prompt", "to_name": "image", "value": {"text": ["a dark cyst"]}}
    assert take(pool, task, annotation(0, result=[words]))
    assert stale(pool) == {50: "typed"}
    peer.server_close()


def test_a_number_that_label_studio_gives_again_is_the_new_prediction(pool: Pool, project: int) -> None:
    """Or the task would be pushed for ever."""
    peer = Peer()
    task = add_pushed(pool, project, peer, 5, "v0")
    mark(pool, task, "image")
    with running(peer) as client:
        pusher = Pusher(pool=pool, client=client, beat=lambda: None)
        pusher.withdraw(project, "v1", open_for=DAY)
        peer.predictions[50] = (5, "v1")
        with pool.read() as session:
            row = session.get_one(Project, project)
        assert [ready.ls_id for ready in pusher._ready(project, "v1")] == [5]
        assert pusher.adopt(row, "v1", [5]) == {5}
        assert pusher._ready(project, "v1") == []
    assert stale(pool) == {}
