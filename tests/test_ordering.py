"""The order of a batch in Label Studio: which scores are changed, in which order, and again after a crash."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pool_fixture import add_label, add_model, add_project, add_task, png_bytes
from sqlalchemy import select
from test_batches import end, open_batch, task_ids
from web_fixture import add_prediction, add_version

from maskloop_backend.labelstudio.client import LabelStudio, LabelStudioError
from maskloop_backend.results import BATCHED
from maskloop_backend.sync import ordering, unmodelled
from maskloop_backend.sync.ordering import keep_order
from maskloop_backend.sync.push import Pusher
from maskloop_backend.sync.tabs import follow_batches
from maskloop_backend.sync.unmodelled import Unmodelled
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.prompting import set_prompts
from maskloop_learner.pool.pushes import mark_stale
from maskloop_learner.pool.schema import Label, Project, Push, Task

UNCERTAINTIES = {1: 0.9, 2: 0.8, 3: 0.7, 4: 0.6, 5: 1.0, 6: 0.1}
PLAIN = {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4, 5: 5e-10, 6: 0.9}


class Peer(ThreadingHTTPServer):
    """Holds predictions and tabs over real HTTP as Label Studio does, and leaves out scores outside 0..1."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.predictions: dict[int, dict[str, Any]] = {}
        self.views: dict[int, dict[str, Any]] = {}
        self.model_version = ""
        self.locked: list[int] = []
        self.patched: list[int] = []
        self.fails_after: int | None = None
        """So many changes of a score are taken; then it is gone."""

    def scores(self, version: str) -> dict[int, float]:
        """Task -> score."""
        rows = [row for row in self.predictions.values() if row["model_version"] == version]
        assert len({row["task"] for row in rows}) == len(rows), "a task has a double"
        return {row["task"]: row["score"] for row in rows}

    def served(self, version: str) -> list[int]:
        """Tasks in the order of the label stream."""
        found = self.scores(version)
        return sorted(found, key=found.__getitem__)


class _Handler(BaseHTTPRequestHandler):
    server: Peer

    def do_GET(self) -> None:
        if "/dm/views" in self.path:
            self._say([{"id": number, "project": 7, "data": data} for number, data in self.server.views.items()])
        elif "/api/projects/" in self.path:
            self._say({"id": 7, "title": "t", "label_config": "", "model_version": self.server.model_version})
        elif "locks" in self.path:
            self._say({"tasks": [{"id": task} for task in self.server.locked]})
        elif "draft_exists" in self.path:
            self._say({"tasks": []})
        else:
            tasks = sorted({row["task"] for row in self.server.predictions.values()})
            rows = list(self.server.predictions.values())
            self._say({"tasks": [{"id": t, "predictions": [r for r in rows if r["task"] == t]} for t in tasks]})

    def do_POST(self) -> None:
        body = self._body()
        if "/dm/views" in self.path:
            number = max(self.server.views, default=0) + 1
            self.server.views[number] = body["data"]
            return self._say({"id": number}, 201)
        good = [row for row in body if 0 <= row["score"] <= 1]
        for row in good:
            number = max(self.server.predictions, default=100) + 1
            self.server.predictions[number] = {**row, "id": number, "updated_at": "2026-01-05T00:00:00Z"}
        return self._say({"created": len(good)}, 201)

    def do_PATCH(self) -> None:
        body, number = self._body(), int(self.path.rstrip("/").rsplit("/", 1)[1])
        if "/api/projects/" in self.path:
            versions = {row["model_version"] for row in self.server.predictions.values()}
            if body["model_version"] and body["model_version"] not in versions:
                return self._say({"detail": "Model version doesn't exist"}, 400)
            self.server.model_version = body["model_version"]
            return self._say({})
        if self.server.fails_after == len(self.server.patched):
            return self._say({"detail": "it is being shut down"}, 400)
        if number not in self.server.predictions:
            return self._say({}, 404)
        self.server.predictions[number]["score"] = body["score"]
        self.server.patched.append(self.server.predictions[number]["task"])
        return self._say({})

    def do_DELETE(self) -> None:
        kept = self.server.views if "/views/" in self.path else self.server.predictions
        kept.pop(int(self.path.rstrip("/").rsplit("/", 1)[1]), None)
        self._say(None, 204)

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _say(self, answer: Any, status: int = 200) -> None:
        self.send_response(status)
        self.end_headers()
        if answer is not None:
            self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def running(peer: Peer) -> Iterator[LabelStudio]:
    """A client of the peer, which serves meanwhile."""
    threading.Thread(target=peer.serve_forever, daemon=True).start()
    try:
        with LabelStudio(f"http://127.0.0.1:{peer.server_address[1]}", "0" * 40) as client:
            yield client
    finally:
        peer.shutdown()
        peer.server_close()


@pytest.fixture
def peer() -> Peer:
    """A Label Studio without predictions."""
    return Peer()


@pytest.fixture
def client(peer: Peer) -> Iterator[LabelStudio]:
    """Its client."""
    with running(peer) as made:
        yield made


@pytest.fixture
def project(pool: Pool) -> int:
    """A project with six tasks, 1 to 6 in Label Studio."""
    number = add_project(pool)
    for ls_id in UNCERTAINTIES:
        add_task(pool, number, ls_id)
    return number


def row_of(pool: Pool, project: int) -> Project:
    with pool.read() as session:
        return session.get_one(Project, project)


def predict(pool: Pool, project: int, version: str, *, leave_out: tuple[int, ...] = ()) -> None:
    """A new champion has predicted all tasks."""
    add_version(pool, project, add_model(pool, project, version.encode()), version)
    for ls_id, task in task_ids(pool, project).items():
        if ls_id not in leave_out:
            with pool.read() as session:
                digest = str(session.get_one(Task, task).image_digest)
            add_prediction(pool, version, digest, uncertainty=UNCERTAINTIES[ls_id])


def push(pool: Pool, client: LabelStudio, project: int, version: str) -> Pusher:
    """What lacks is pushed, and Label Studio serves the version."""
    pusher = Pusher(pool=pool, client=client, beat=lambda: None)
    assert pusher.push(project, version)
    assert pusher.switch(project, version)
    return pusher


def order(pool: Pool, client: LabelStudio, project: int, version: str | None) -> bool:
    return keep_order(pool, client, row_of(pool, project), version, beat=lambda: None)


def test_an_opened_batch_comes_first_and_an_ended_one_leaves_no_trace(
    pool: Pool, project: int, peer: Peer, client: LabelStudio
) -> None:
    """Its first image is put in front first; a second pass changes nothing."""
    predict(pool, project, "v1")
    push(pool, client, project, "v1")
    assert peer.scores("v1") == pytest.approx(PLAIN, abs=1e-12)
    before = peer.scores("v1")
    for undo in (False, True):
        batch = open_batch(pool, project, [6, 3, 4])
        assert order(pool, client, project, "v1")
        assert peer.served("v1") == [6, 3, 4, 5, 1, 2]
        assert peer.patched == [6, 3, 4]
        assert order(pool, client, project, "v1")
        assert peer.patched == [6, 3, 4]
        end(pool, batch, undo=undo)
        assert order(pool, client, project, "v1")
        assert peer.scores("v1") == before
        assert sorted(peer.patched) == [3, 3, 4, 4, 6, 6]
        peer.patched.clear()


def test_a_change_of_order_that_is_cut_short_goes_on_where_it_stopped(
    pool: Pool, project: int, peer: Peer, client: LabelStudio
) -> None:
    """Killed after Label Studio took a score and before that was noted: the change is made again, and no other lost."""
    predict(pool, project, "v1")
    push(pool, client, project, "v1")
    open_batch(pool, project, [6, 3, 4, 2])
    peer.fails_after = 2
    with pytest.raises(LabelStudioError, match="shut down"):
        order(pool, client, project, "v1")
    assert peer.served("v1")[:2] == [6, 3], "the front of the batch is right however far it came"
    peer.fails_after = None
    with pool.write() as session:
        noted = session.scalars(select(Push).order_by(Push.score)).first()
        assert noted is not None
        noted.score = PLAIN[6]
    assert order(pool, client, project, "v1")
    assert peer.served("v1") == [6, 3, 4, 2, 5, 1]
    assert peer.patched == [6, 3, 6, 4, 2]


def test_a_batch_after_another_is_not_mixed_with_what_is_left_of_it(
    pool: Pool, project: int, peer: Peer, client: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands in front, or should, is put right first; a pass does no more than it has time for."""
    predict(pool, project, "v1")
    push(pool, client, project, "v1")
    first = open_batch(pool, project, [6, 3, 4])
    assert order(pool, client, project, "v1")
    end(pool, first, undo=True)
    open_batch(pool, project, [2, 4])
    peer.patched.clear()
    monkeypatch.setattr(ordering, "SECONDS", -1.0)
    assert not order(pool, client, project, "v1")
    assert peer.patched == []
    monkeypatch.setattr(ordering, "SECONDS", 5.0)
    assert order(pool, client, project, "v1")
    assert set(peer.patched[:2]) == {6, 2}
    assert peer.served("v1") == [2, 4, 5, 1, 3, 6]


def test_what_a_new_model_draws_is_pushed_with_its_place(
    pool: Pool, project: int, peer: Peer, client: LabelStudio
) -> None:
    """The batch first; no score is changed afterwards; and a rollback has the order at once."""
    predict(pool, project, "v1")
    push(pool, client, project, "v1")
    open_batch(pool, project, [6, 3])
    assert order(pool, client, project, "v1")
    peer.patched.clear()
    predict(pool, project, "v2")
    push(pool, client, project, "v2")
    assert peer.served("v2") == [6, 3, 5, 1, 2, 4]
    ids = sorted(number for number, row in peer.predictions.items() if row["model_version"] == "v2")
    assert [peer.predictions[number]["task"] for number in ids] == [6, 3, 5, 1, 2, 4]
    assert order(pool, client, project, "v2")
    assert peer.patched == []


def test_a_version_that_returns_is_brought_into_the_order_of_now(
    pool: Pool, project: int, peer: Peer, client: LabelStudio
) -> None:
    predict(pool, project, "v1")
    push(pool, client, project, "v1")
    predict(pool, project, "v2")
    pusher = push(pool, client, project, "v2")
    batch = open_batch(pool, project, [6, 3])
    assert order(pool, client, project, "v2")
    assert peer.served("v1")[0] == 5, "what is not served waits"
    assert pusher.switch(project, "v1")
    assert order(pool, client, project, "v1")
    assert peer.served("v1")[:2] == [6, 3]
    end(pool, batch)
    assert order(pool, client, project, "v1")
    assert pusher.switch(project, "v2")
    assert order(pool, client, project, "v2")
    assert peer.served("v1") == peer.served("v2") == [5, 1, 2, 3, 4, 6]


def test_blind_tasks_and_typed_prompts_keep_their_place_in_the_batch(
    pool: Pool, project: int, peer: Peer, client: LabelStudio
) -> None:
    """A blind task is pushed without a mask; one that is asked another thing now has the score of what stands there."""
    ids = task_ids(pool, project)
    with pool.write() as session:
        session.get_one(Task, ids[3]).blind = True
        session.get_one(Project, project).prompts = {"Tumor": "[{size} ]tumor"}
    predict(pool, project, "v1")
    batch = open_batch(pool, project, [3, 4])
    push(pool, client, project, "v1")
    assert peer.served("v1")[:2] == [3, 4]
    [blind] = [row for row in peer.predictions.values() if row["task"] == 3]
    assert blind["result"] == []
    with pool.write() as session:
        task = session.get_one(Task, ids[4])
        task.typed_prompts = {"Tumor": "a very small tumor"}
        assert set_prompts(session, session.get_one(Project, project), task)
        mark_stale(session, task, "typed")
    assert order(pool, client, project, "v1")
    assert peer.patched == []
    end(pool, batch)
    assert order(pool, client, project, "v1")
    assert peer.scores("v1") == pytest.approx(PLAIN, abs=1e-12)


def test_a_task_of_several_images_has_one_place(pool: Pool, project: int, peer: Peer, client: LabelStudio) -> None:
    """And outside the batch the score of its most uncertain image."""
    add_task(pool, project, 6, data=png_bytes(99), part="late")
    with pool.read() as session:
        late = session.scalars(select(Task).where(Task.part == "late")).one()
    control = row_of(pool, project).control
    with pool.write() as session:
        two = [*control["controls"], {**control["controls"][0], "from_name": "two", "data_key": "late"}]
        session.get_one(Project, project).control = {**control, "controls": two}
    predict(pool, project, "v1")
    add_prediction(pool, "v1", str(late.image_digest), uncertainty=0.95)
    push(pool, client, project, "v1")
    assert peer.scores("v1")[6] == pytest.approx(0.05)
    batch = open_batch(pool, project, [2, 6])
    assert order(pool, client, project, "v1")
    assert peer.served("v1")[:2] == [2, 6]
    end(pool, batch)
    assert order(pool, client, project, "v1")
    assert peer.scores("v1")[6] == pytest.approx(0.05)


def test_labelled_tasks_come_last_and_a_prediction_that_is_gone_is_pushed_again(
    pool: Pool, project: int, peer: Peer, client: LabelStudio
) -> None:
    predict(pool, project, "v1")
    pusher = push(pool, client, project, "v1")
    add_label(pool, task_ids(pool, project)[6])
    open_batch(pool, project, [6, 3, 4])
    [gone] = [number for number, row in peer.predictions.items() if row["task"] == 3]
    del peer.predictions[gone]
    assert order(pool, client, project, "v1")
    assert peer.patched == [4, 6]
    assert pusher.push(project, "v1")
    assert peer.served("v1")[:3] == [6, 3, 4]


def test_a_batch_has_a_tab_as_long_as_it_is_open(pool: Pool, project: int, peer: Peer, client: LabelStudio) -> None:
    """One, also when sync was killed before it had noted it."""
    batch = open_batch(pool, project, [6, 3])
    follow_batches(pool, client, row_of(pool, project))
    with pool.write() as session:
        session.merge(batch).ls_view_id = None
    for _ in range(2):
        follow_batches(pool, client, row_of(pool, project))
    [tab] = peer.views.values()
    assert tab["title"] == "Batch 1: uncertainty, 2 images"
    assert tab["ordering"] == ["tasks:predictions_score"]
    [condition] = tab["filters"]["items"]
    assert condition == {
        "filter": "filter:tasks:predictions_score",
        "operator": "less",
        "type": "Number",
        "value": 5e-10,
    }
    end(pool, batch, undo=True)
    follow_batches(pool, client, row_of(pool, project))
    assert peer.views == {}
    open_batch(pool, project, [6])
    follow_batches(pool, client, row_of(pool, project))
    assert [view["title"] for view in peer.views.values()] == ["Batch 2: uncertainty, 1 image"]


def cold(pool: Pool, client: LabelStudio, project: int, *, look: bool = True) -> bool:
    """A step of sync in a project without a model."""
    pusher = Pusher(pool=pool, client=client, beat=lambda: None)
    order(pool, client, project, None)
    serving = Unmodelled(pool=pool, client=client, pusher=pusher, beat=lambda: None)
    return serving.serve(row_of(pool, project), look=look)


def test_a_batch_is_served_before_there_is_a_model(pool: Pool, project: int, peer: Peer, client: LabelStudio) -> None:
    """By empty predictions of its members alone; they go with it, but not from under somebody, nor a label's parent."""
    assert not cold(pool, client, project)
    assert peer.predictions == {}
    batch = open_batch(pool, project, [6, 3, 4, 2])
    assert not cold(pool, client, project)
    assert (peer.served(BATCHED), peer.model_version) == ([6, 3, 4, 2], BATCHED)
    assert not cold(pool, client, project)
    assert peer.served(BATCHED) == [6, 3, 4, 2]
    add_label(pool, task_ids(pool, project)[6])
    [parent] = [number for number, row in peer.predictions.items() if row["task"] == 6]
    with pool.write() as session:
        session.scalars(select(Label)).one().parent_prediction = parent
    peer.locked = [3]
    end(pool, batch)
    assert not cold(pool, client, project)
    assert (sorted(peer.scores(BATCHED)), peer.model_version) == ([3, 6], "")
    peer.locked = []
    assert not cold(pool, client, project)
    assert list(peer.scores(BATCHED)) == [6]
    peer.model_version = "of somebody else"
    assert not cold(pool, client, project)
    assert peer.model_version == "of somebody else"


def test_a_push_without_a_model_that_is_cut_short_makes_no_doubles(
    pool: Pool, project: int, peer: Peer, client: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the push and its note, and between the note and the switch."""
    open_batch(pool, project, [6, 3, 4])
    monkeypatch.setattr(unmodelled, "ROWS_AT_ONCE", 2)
    for number, (ls_id, score) in enumerate(((6, 1e-15), (3, 2e-15)), 101):
        row = {"task": ls_id, "score": score, "model_version": BATCHED, "result": []}
        peer.predictions[number] = {**row, "id": number, "updated_at": "2026-01-05T00:00:00Z"}
    assert cold(pool, client, project), "one is left"
    assert not cold(pool, client, project)
    assert (peer.served(BATCHED), peer.model_version) == ([6, 3, 4], BATCHED)
    peer.model_version = ""
    assert not cold(pool, client, project, look=False)
    assert not cold(pool, client, project)
    assert peer.model_version == BATCHED


def test_the_first_model_takes_an_open_batch_over(pool: Pool, project: int, peer: Peer, client: LabelStudio) -> None:
    """Its predictions come with the batch's scores; what carried the order before goes like every old version."""
    batch = open_batch(pool, project, [6, 3])
    assert not cold(pool, client, project)
    predict(pool, project, "v1", leave_out=(6,))
    pusher = Pusher(pool=pool, client=client, beat=lambda: None)
    assert pusher.push(project, "v1")
    assert peer.served("v1") == [3, 5, 1, 2, 4]
    assert order(pool, client, project, "v1")
    end(pool, batch)
    open_batch(pool, project, [3, 6])
    assert order(pool, client, project, "v1")
    assert peer.served(BATCHED) == [3, 6], "it is served until the masks are there"
    assert pusher.switch(project, "v1")
    assert pusher.withdraw(project, "v1", open_for=timedelta(0))
