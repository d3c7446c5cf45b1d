"""The pieces of sync that need no Label Studio: labels out of annotations, what is enqueued, what may be deleted."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from pool_fixture import TUMOR, add_label, add_model, add_project, add_task, png_bytes
from sqlalchemy import select
from valkey_fixture import Valkey

from maskloop_backend.labelstudio.client import Annotation, AnnotationHead, LabelStudio
from maskloop_backend.masks.regions import to_regions
from maskloop_backend.sync import work
from maskloop_backend.sync.annotations import drop_annotations, is_stale, take_annotation
from maskloop_backend.sync.loop import Sync
from maskloop_backend.sync.push import Pusher
from maskloop_backend.sync.retention import drop_old_predictions
from maskloop_learner.pool.masks import decode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Image, Label, Model, Prediction, Project, Push, Round, Snapshot, Task, utcnow
from maskloop_learner.settings import Settings
from maskloop_learner.train.registry import ensure_version, set_champion
from maskloop_queue.queues import gpu_queue, live_job_ids, score_job_id, training_queue
from maskloop_queue.triggers import request_training

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
WIDTH, HEIGHT = 24, 16


def annotation(minute: int, *, box: int = 4, width: int = WIDTH, **changes: Any) -> Annotation:
    """An annotation as the client reads it: a square of `box` pixels, changed at `minute`."""
    mask = np.zeros((HEIGHT, width), bool)
    mask[:box, :box] = True
    regions = to_regions({"Tumor": mask}, controls=[TUMOR], region_prefix="r")
    fields: dict[str, Any] = {
        "id": 31,
        "task": 5,
        "result": regions,
        "author": 2,
        "cancelled": False,
        "ground_truth": False,
        "lead_time": 3.5,
        "parent_prediction": 77,
        "created_at": MONDAY,
        "updated_at": MONDAY + timedelta(minutes=minute),
    }
    return Annotation(**fields | changes)


def take(pool: Pool, task_id: int, body: Annotation) -> bool:
    """Take an annotation as sync does, with the task and its image as they are now."""
    with pool.read() as session:
        task = session.get_one(Task, task_id)
        project = session.get_one(Project, task.project_id)
        image = session.get(Image, task.image_digest) if task.image_digest else None
    return take_annotation(pool, project, task, image, body, authors={2: "ann@example.org"})


def versions(pool: Pool) -> list[Label]:
    """All versions of all labels, oldest first."""
    with pool.read() as session:
        return list(session.scalars(select(Label).order_by(Label.id)))


def test_every_version_of_an_annotation_is_kept(pool: Pool) -> None:
    """Created, seen again, edited, skipped, un-skipped and deleted: five versions, and none is current at the end."""
    project = add_project(pool)
    task = add_task(pool, project, 5)
    assert take(pool, task, annotation(0))
    assert not take(pool, task, annotation(0)), "nothing new"
    assert take(pool, task, annotation(1, box=6))
    assert take(pool, task, annotation(2, cancelled=True))
    assert take(pool, task, annotation(3, box=6))
    for _ in range(2):
        drop_annotations(pool, project, task, [31])
    rows = versions(pool)
    assert [(row.version, row.cancelled, row.deleted, len(row.masks)) for row in rows] == [
        (1, False, False, 1),
        (2, False, False, 1),
        (3, True, False, 0),
        (4, False, False, 1),
        (5, False, True, 0),
    ]
    assert not any(row.current for row in rows)
    assert [row.current for row in rows] == [False] * 5
    areas = [decode_mask(pool.store.get("masks", row.masks["Tumor"])).sum() for row in rows if row.masks]
    assert areas == [16, 36, 36]
    assert {(row.author, row.lead_time) for row in rows[:4]} == {("ann@example.org", 3.5)}


def test_the_parent_survives_its_deletion_in_label_studio(pool: Pool) -> None:
    """Label Studio blanks an annotation's parent when the prediction goes: what the annotator saw stays known."""
    project = add_project(pool)
    task = add_task(pool, project, 5)
    take(pool, task, annotation(0))
    assert not take(pool, task, annotation(0, parent_prediction=None))
    assert take(pool, task, annotation(1, box=6, parent_prediction=None))
    drop_annotations(pool, project, task, [31])
    assert take(pool, task, annotation(2, parent_prediction=None)), "Label Studio gave its number to another one"
    assert [row.parent_prediction for row in versions(pool)] == [77, 77, 77, None]


def test_an_annotation_that_cannot_be_learnt_from_is_kept_with_the_reason(pool: Pool) -> None:
    """A region of another size, and an image that is missing; once that is cured the label counts."""
    project = add_project(pool)
    task = add_task(pool, project, 5)
    assert take(pool, task, annotation(0, width=WIDTH + 1))
    (row,) = versions(pool)
    assert row.masks == {}
    assert row.current
    assert row.error is not None
    assert "annotation 31 of task 5" in row.error
    assert f"{WIDTH + 1}" in row.error
    with pool.write() as session:
        stored = session.get_one(Task, task)
        digest, stored.image_digest, stored.state, stored.error = stored.image_digest, None, "failed", "it is a text"
    assert take(pool, task, annotation(1))
    assert versions(pool)[-1].error == "the image of task 5 cannot be used: it is a text"
    with pool.write() as session:
        stored = session.get_one(Task, task)
        stored.image_digest, stored.state, stored.error = digest, "ready", None
    assert take(pool, task, annotation(1)), "the same annotation, which can be read now"
    assert [(row.version, row.current, bool(row.error)) for row in versions(pool)] == [
        (1, False, True),
        (2, False, True),
        (3, True, False),
    ]


def test_a_bad_template_is_the_projects_trouble_and_not_the_loops(pool: Pool, settings: Settings) -> None:
    """One project's template, written into the pool by another hand, leaves all other projects served."""
    project = add_project(pool)
    add_task(pool, project, 5)
    with pool.write() as session:
        session.get_one(Project, project).prompts = {"Tumor": "tumor [of"}
    settings.redis_url = "redis://127.0.0.1:1"
    loop = Sync(pool=pool, settings=settings)
    loop.clients.get = lambda url: None  # type: ignore[assignment,method-assign,return-value]
    loop._look_at[project] = float("inf")
    with pool.read() as session:
        row = session.get_one(Project, project)
    assert not loop.step(row)
    with pool.read() as session:
        assert "never closed" in (session.get_one(Project, project).sync_error or "")


def test_a_snapshot_that_is_lost_does_not_end_the_loop(
    pool: Pool, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    project = add_project(pool)
    add_label(pool, add_task(pool, project, 5))
    with pool.write() as session:
        session.add(Snapshot(project_id=project, digest="0" * 64))
    request_training(pool, project, cause="cli")
    settings.redis_url = "redis://127.0.0.1:1"
    loop = Sync(pool=pool, settings=settings)
    loop.clients.get = lambda url: None  # type: ignore[assignment,method-assign,return-value]
    loop._look_at[project] = float("inf")
    with pool.read() as session:
        row = session.get_one(Project, project)
    loop.step(row)
    assert "no training can be opened" in caplog.text
    assert "0" * 64 in caplog.text


def test_what_counts_as_another_version(pool: Pool) -> None:
    """Time and skip decide; a label that could not be read is looked at again."""
    head = AnnotationHead(31, MONDAY, False)
    known = Label(ls_updated_at=MONDAY, cancelled=False, error=None)
    assert is_stale(None, head)
    assert not is_stale(known, head)
    assert is_stale(known, AnnotationHead(31, MONDAY, True))
    assert is_stale(known, AnnotationHead(31, MONDAY + timedelta(microseconds=1), False))
    assert is_stale(Label(ls_updated_at=MONDAY, cancelled=False, error="broken"), head)


def champion(pool: Pool, settings: Settings, project_id: int) -> str:
    """A model that is served; returns its prediction version."""
    model_id = add_model(pool, project_id)
    with pool.write() as session:
        project, model = session.get_one(Project, project_id), session.get_one(Model, model_id)
        version = ensure_version(session, project, model, settings)
        set_champion(session, project_id=project_id, model_id=model_id, version_id=version, fence=0, by="test")
    return version


def test_lost_scoring_jobs_are_enqueued_anew(pool: Pool, settings: Settings, shared_valkey: Valkey) -> None:
    """What lacks a prediction is in the queue, once; also after Redis has forgotten everything."""
    conn, project = shared_valkey.connect(), add_project(pool)
    tasks = [add_task(pool, project, n) for n in range(1, 5)]
    assert work.enqueue_missing(pool, conn, project) == 0, "no model, nothing to predict with"
    version = champion(pool, settings, project)
    with pool.read() as session:
        digests = [session.get_one(Task, task).image_digest or "" for task in tasks]
    with pool.write() as session:
        session.add(Prediction(version_id=version, image_digest=digests[0], uncertainty=0.5))
    wanted = {score_job_id(version, digest) for digest in digests[1:]}
    for _ in range(2):
        assert work.enqueue_missing(pool, conn, project) == 3
        assert live_job_ids(gpu_queue(conn)) == wanted
        assert gpu_queue(conn).count == 3
    conn.flushall()
    assert work.enqueue_missing(pool, conn, project) == 3
    assert live_job_ids(gpu_queue(conn)) == wanted
    with pool.read() as session:
        assert work.waiting_tasks(session, project, version) == 3


def test_unlabelled_images_come_first_and_not_all_at_once(
    pool: Pool, settings: Settings, shared_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is kept short, and what an annotator may open next is predicted before what is labelled."""
    monkeypatch.setattr(work, "JOBS_AHEAD", 2)
    conn, project = shared_valkey.connect(), add_project(pool)
    tasks = [add_task(pool, project, n) for n in range(1, 4)]
    add_label(pool, tasks[0])
    version = champion(pool, settings, project)
    assert work.enqueue_missing(pool, conn, project) == 2
    with pool.read() as session:
        digests = [session.get_one(Task, task).image_digest or "" for task in tasks[1:]]
        assert work.waiting_tasks(session, project, version) == 2
    assert live_job_ids(gpu_queue(conn)) == {score_job_id(version, digest) for digest in digests}


def test_a_lost_round_job_is_enqueued_anew(pool: Pool, settings: Settings, shared_valkey: Valkey) -> None:
    """A round has one job, gets it back after FLUSHALL or a kill, waits for its retry, and none once it has ended."""
    conn, project = shared_valkey.connect(), add_project(pool)
    for n in (1, 2):
        add_label(pool, add_task(pool, project, n))
    assert not work.enqueue_rounds(pool, conn, project, settings)
    request_training(pool, project, cause="cli")
    for _ in range(2):
        assert work.enqueue_rounds(pool, conn, project, settings)
        assert live_job_ids(training_queue(conn)) == {"round-1-1"}
    conn.flushall()
    assert work.enqueue_rounds(pool, conn, project, settings)
    assert live_job_ids(training_queue(conn)) == {"round-1-1"}
    conn.flushall()
    with pool.write() as session:
        row = session.get_one(Round, 1)
        row.state, row.attempts, row.retry_at = "queued", 1, utcnow() + timedelta(minutes=1)
    assert work.enqueue_rounds(pool, conn, project, settings), "it is open"
    assert not live_job_ids(training_queue(conn)), "but not due"
    with pool.write() as session:
        session.get_one(Round, 1).retry_at = utcnow() - timedelta(seconds=1)
    assert work.enqueue_rounds(pool, conn, project, settings)
    assert live_job_ids(training_queue(conn)) == {"round-1-2"}
    conn.flushall()
    with pool.write() as session:
        session.get_one(Round, 1).state = "rejected"
    assert not work.enqueue_rounds(pool, conn, project, settings)
    assert not live_job_ids(training_queue(conn))


def test_a_changed_prompt_is_a_version_of_its_own(pool: Pool, settings: Settings) -> None:
    """Whatever changes a mask changes what should be served, and back."""
    project = add_project(pool)
    assert work.follow_settings(pool, project, settings) is None
    first = champion(pool, settings, project)
    assert work.follow_settings(pool, project, settings) == first
    with pool.write() as session:
        session.get_one(Project, project).prompts = {"Tumor": "a dark mass"}
    second = work.follow_settings(pool, project, settings)
    assert second not in (None, first)
    with pool.write() as session:
        session.get_one(Project, project).prompts = {"Tumor": "tumor"}
    assert work.follow_settings(pool, project, settings) == first


class Peer(ThreadingHTTPServer):
    """Answers the calls of retention and adoption over real HTTP: task lists and deletions of predictions."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.locked: list[int] = []
        self.predictions: dict[int, tuple[int, str]] = {}
        """Prediction id -> (task, version)."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Peer

    def do_GET(self) -> None:
        rows: list[dict[str, Any]] = []
        if "locks" in self.path:
            rows = [{"id": task} for task in self.server.locked]
        elif "draft_exists" not in self.path or "hiddenColumns" in self.path:
            tasks = {task for task, _ in self.server.predictions.values()}
            rows = [self._row(task) for task in sorted(tasks)]
        body = json.dumps({"tasks": rows}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def _row(self, task: int) -> dict[str, Any]:
        found = self._predictions(task)
        versions = ",".join(sorted({row["model_version"] for row in found}))
        counts = {"total_predictions": len(found), "predictions_model_versions": versions}
        return {"id": task, "predictions": found, **counts}

    def _predictions(self, task: int) -> list[dict[str, Any]]:
        found = [(number, version) for number, (of, version) in self.server.predictions.items() if of == task]
        time = "2026-01-05T00:00:00Z"
        return [
            {"id": number, "task": task, "model_version": version, "score": 0.5, "updated_at": time}
            for number, version in found
        ]

    def do_DELETE(self) -> None:
        number = int(self.path.rstrip("/").rsplit("/", 1)[1])
        there = self.server.predictions.pop(number, None)
        self.send_response(204 if there else 404)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def running(peer: Peer) -> Iterator[LabelStudio]:
    """A client of the peer, which serves meanwhile."""
    threading.Thread(target=peer.serve_forever, daemon=True).start()
    try:
        with LabelStudio(peer.url, "0" * 40) as client:
            yield client
    finally:
        peer.shutdown()
        peer.server_close()


def test_old_predictions_go_but_none_that_is_needed(pool: Pool, settings: Settings) -> None:
    """Kept: the served and the previous version, parents of labels, locked tasks, and all until the time has come."""
    project = add_project(pool)
    tasks = {n: add_task(pool, project, n) for n in (1, 2, 3, 4)}
    add_label(pool, tasks[2])
    peer = Peer()
    peer.locked = [3]
    with pool.write() as session:
        session.scalars(select(Label)).one().parent_prediction = 12
        row = session.get_one(Project, project)
        row.served_version, row.previous_version, row.switched_at = "new", "middle", utcnow()
        for n, task in tasks.items():
            for place, version in ((10, "old"), (20, "middle"), (30, "new")):
                peer.predictions[place + n] = (n, version)
                session.add(Push(ls_prediction_id=place + n, project_id=project, task_id=task, version_id=version))
    with running(peer) as client:
        assert drop_old_predictions(pool, client, project, settings) == 0, "an open tab may hold a task"
        settings.retention_hours = 0
        assert drop_old_predictions(pool, client, project, settings) == 2
        assert drop_old_predictions(pool, client, project, settings) == 0
        peer.locked = []
        assert drop_old_predictions(pool, client, project, settings) == 1
    assert sorted(peer.predictions) == [12, *range(21, 25), *range(31, 35)]
    with pool.read() as session:
        gone = session.scalars(select(Push.ls_prediction_id).where(Push.gone_at.is_not(None)))
        assert sorted(gone) == [11, 13, 14]


def test_what_an_annotator_saw_stays_when_the_first_image_has_left_the_config(pool: Pool, settings: Settings) -> None:
    """The prediction is noted with the task's first image, the label with the one that is left."""
    project = add_project(pool)
    first, second = (
        add_task(pool, project, 1, data=png_bytes(n), part=part) for n, part in enumerate(("old", "image"))
    )
    add_label(pool, second)
    peer = Peer()
    peer.predictions[12] = (1, "old")
    settings.retention_hours = 0
    with pool.write() as session:
        session.get_one(Task, first).deleted_at = MONDAY
        session.scalars(select(Label)).one().parent_prediction = 12
        session.get_one(Project, project).switched_at = utcnow()
        session.add(Push(ls_prediction_id=12, project_id=project, task_id=first, version_id="old"))
    with running(peer) as client:
        assert drop_old_predictions(pool, client, project, settings) == 0
    assert sorted(peer.predictions) == [12]


def test_doubles_go_and_what_vanished_is_pushed_again(pool: Pool, settings: Settings) -> None:
    """Of two predictions the older stays; one that was deleted in Label Studio, or is there again, is noted."""
    project_id = add_project(pool)
    tasks = {n: add_task(pool, project_id, n) for n in (1, 2)}
    with pool.read() as session:
        project = session.get_one(Project, project_id)
    peer = Peer()
    peer.predictions = {41: (1, "v"), 42: (1, "v"), 43: (1, "w"), 44: (2, "v")}
    with running(peer) as client:
        pusher = Pusher(pool=pool, client=client, beat=lambda: None)
        assert pusher.adopt(project, "v", [1, 2]) == {1, 2}
        assert sorted(peer.predictions) == [41, 43, 44]
        kept = peer.predictions.pop(44)
        assert pusher.adopt(project, "v", [1, 2]) == {1}
        assert held(pool) == {41: tasks[1]}
        peer.predictions[44] = kept
        assert pusher.adopt(project, "v", [1, 2]) == {1, 2}
    assert held(pool) == {41: tasks[1], 44: tasks[2]}


def test_predictions_of_a_lost_version_are_noted(pool: Pool) -> None:
    """A pool out of a backup does not know what was pushed later: it is noted, and goes like all old ones."""
    project_id = add_project(pool)
    tasks = {n: add_task(pool, project_id, n) for n in (1, 2)}
    lost = "maskloop-0123456789ab"
    peer = Peer()
    peer.predictions = {41: (1, lost), 42: (2, lost), 43: (2, "of somebody else"), 44: (1, "maskloop-aaaaaaaaaaaa")}
    with running(peer) as client:
        Pusher(pool=pool, client=client, beat=lambda: None).recheck(project_id, "maskloop-aaaaaaaaaaaa")
    assert held(pool) == {41: tasks[1], 42: tasks[2], 44: tasks[1]}
    with pool.read() as session:
        assert session.scalars(select(Push.version_id).where(Push.ls_prediction_id == 41)).one() == lost
    assert len(peer.predictions) == 4


def held(pool: Pool) -> dict[int, int]:
    """Prediction id -> task of what the pool believes to be in Label Studio."""
    with pool.read() as session:
        pushes = session.scalars(select(Push).where(Push.gone_at.is_(None)))
        return {push.ls_prediction_id: push.task_id for push in pushes}
