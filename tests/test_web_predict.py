"""/predict over real HTTP: prepared answers, images not yet scored, bad tasks, a queue that is down."""

import http.server
import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pool_fixture import TUMOR, add_model, add_project, add_task, png_bytes
from sqlalchemy import select, update
from valkey_fixture import Valkey, wait_until
from web_fixture import Hand, add_prediction, add_version, queued, serving

from maskloop_backend.masks.regions import from_regions
from maskloop_backend.results import ResultCache
from maskloop_backend.web import predict
from maskloop_learner.pool.masks import decode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Image, Prediction, Project, Score, Task, utcnow
from maskloop_learner.settings import Settings

PAYLOADS = Path(__file__).resolve().parents[2] / "shared" / "payloads"
EMPTY = {"result": [], "score": 1.0, "model_version": "maskloop-unanswered"}
TOKEN = {"Authorization": "Token of-label-studio"}


class Uploads:
    """A Label Studio as far as its files go: /data/<name>, for those with the token."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.delay = 0.0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                time.sleep(outer.delay)
                allowed = self.headers.get("Authorization") == TOKEN["Authorization"]
                content = outer.files.get(self.path) if allowed else None
                self.send_response(401 if not allowed else 404 if content is None else 200)
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def uploads() -> Iterator[Uploads]:
    server = Uploads()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def project(pool: Pool, uploads: Uploads) -> int:
    """Project 1 of Label Studio with a model and version v1."""
    project = add_project(pool, ls_id=1)
    with pool.write() as session:
        session.execute(update(Project).values(ls_url=uploads.url))
    add_version(pool, project, add_model(pool, project), "v1")
    return project


@pytest.fixture
def serve_web(pool: Pool, settings: Settings) -> Iterator[httpx.Client]:
    """The application with Label Studio's token and a short deadline; whether Redis is up is the test's choice."""
    settings.predict_deadline = 5.0
    with serving(pool, settings, headers_for=lambda url: TOKEN) as client:
        yield client


def ask(web: httpx.Client, *tasks: Any) -> list[Any]:
    body = json.dumps({"tasks": tasks, "project": "1.1795397810", "params": {"context": None}})
    response = web.post("/predict", content=body)
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    assert len(results) == len(tasks)
    assert isinstance(results, list)
    return results


def task(ls_id: Any, url: Any = "/data/none.png") -> dict[str, Any]:
    return {"id": ls_id, "data": {"image": url}}


def row(pool: Pool, ls_id: int) -> Task:
    with pool.read() as session:
        return session.scalars(select(Task).where(Task.ls_id == ls_id)).one()


def scored(pool: Pool, project: int, ls_id: int, *, uncertainty: float = 0.25) -> int:
    add_task(pool, project, ls_id)
    return add_prediction(pool, "v1", row(pool, ls_id).image_digest or "", uncertainty=uncertainty)


@pytest.mark.parametrize("name", ["predict_task_open", "predict_batch", "predict_interactive_text_prompt"])
def test_prepared_answers_to_real_requests(serve_web: httpx.Client, pool: Pool, project: int, name: str) -> None:
    path = PAYLOADS / f"{name}.json"
    if not path.exists():
        pytest.skip(f"no captured request {path}")
    captured = json.loads(path.read_text())
    body, before = captured["body"], captured["response"]
    with pool.write() as session:
        session.execute(update(Project).values(ls_id=int(body["project"].split(".")[0])))
    for number, sent in enumerate(body["tasks"]):
        scored(pool, project, sent["id"], uncertainty=0.1 + number / 10)
    answer = serve_web.post("/predict", json=body).json()
    assert [set(result) for result in answer["results"]] == [set(result) for result in before["results"]]
    assert [result["score"] for result in answer["results"]] == pytest.approx(
        [0.9 - number / 10 for number in range(len(body["tasks"]))]
    )
    assert {result["model_version"] for result in answer["results"]} == {"v1"}
    ours, theirs = answer["results"][0]["result"][0], before["results"][0]["result"][0]
    assert set(ours) == set(theirs)
    assert set(ours["value"]) == set(theirs["value"])


def test_the_reply_is_the_pools_mask(serve_web: httpx.Client, pool: Pool, project: int) -> None:
    prediction = scored(pool, project, 5, uncertainty=0.123456789)
    [result] = ask(serve_web, task(5))
    assert result["score"] == 0.876543211
    with pool.read() as session:
        score = session.scalars(select(Score).where(Score.prediction_id == prediction)).one()
    expected = decode_mask(pool.store.get("masks", score.mask_digest))
    found = from_regions(result["result"], controls=[TUMOR], width=24, height=16)
    assert (found["Tumor"] == expected).all()
    assert (result["result"][0]["from_name"], result["result"][0]["to_name"]) == ("tag", "image")
    assert ask(serve_web, task(5)) == [result]


def test_a_new_version_is_not_answered_from_the_old_ones_cache(
    serve_web: httpx.Client, pool: Pool, project: int
) -> None:
    scored(pool, project, 5)
    assert ask(serve_web, task(5))[0]["model_version"] == "v1"
    add_version(pool, project, add_model(pool, project, b"other"), "v2")
    add_prediction(pool, "v2", row(pool, 5).image_digest or "", uncertainty=0.5)
    result = ask(serve_web, task(5))[0]
    assert (result["model_version"], result["score"]) == ("v2", 0.5)


def test_the_served_version_answers_while_the_new_one_is_made(
    serve_web: httpx.Client, pool: Pool, project: int, valkey: Valkey
) -> None:
    scored(pool, project, 5)
    add_version(pool, project, add_model(pool, project, b"other"), "v2")
    with pool.write() as session:
        session.execute(update(Project).values(served_version="v1"))
    assert ask(serve_web, task(5))[0]["model_version"] == "v1"
    assert queued(valkey.connect()) == []
    add_prediction(pool, "v2", row(pool, 5).image_digest or "")
    assert ask(serve_web, task(5))[0]["model_version"] == "v2"


def test_three_hundred_tasks_in_one_request_in_order(serve_web: httpx.Client, pool: Pool, project: int) -> None:
    for ls_id in range(1, 6):
        scored(pool, project, ls_id, uncertainty=ls_id / 10)
    ids = [1 + number % 5 for number in range(300)]
    results = ask(serve_web, *[task(ls_id) for ls_id in ids])
    assert [result["score"] for result in results] == pytest.approx([1 - ls_id / 10 for ls_id in ids])
    assert ask(serve_web) == []


def test_one_result_per_task_whatever_the_task_is(
    serve_web: httpx.Client, pool: Pool, project: int, caplog: pytest.LogCaptureFixture
) -> None:
    scored(pool, project, 5)
    bad: list[Any] = [None, 3, "x", [], {}, {"id": "5"}, {"id": True}, {"id": 2**70}, {"id": -5}, {"id": 6}]
    bad += [
        {"id": 6, "data": []},
        {"id": 6, "data": {"image": 5}},
        task(6, ""),
        task(6, "\ud800"),
        task(6, "ftp://b/x"),
    ]
    with caplog.at_level(logging.WARNING, logger="maskloop_backend"):
        results = ask(serve_web, task(5), *bad, task(5))
    assert results[1:-1] == [EMPTY] * len(bad)
    assert results[0] == results[-1]
    assert results[0]["model_version"] == "v1"
    for reason in ("not a JSON object", "no valid id", "no image address under 'image'", "scheme 'ftp'"):
        assert reason in caplog.text


def test_an_unknown_project_and_one_without_a_model(serve_web: httpx.Client, pool: Pool) -> None:
    assert ask(serve_web, task(1), task(2)) == [EMPTY] * 2
    add_project(pool, ls_id=1)
    started = time.monotonic()
    assert ask(serve_web, task(1)) == [{**EMPTY, "model_version": "maskloop-untrained"}]
    assert time.monotonic() - started < 1


def test_a_task_not_yet_scored_is_put_in_front_and_waited_for(
    serve_web: httpx.Client, pool: Pool, project: int, valkey: Valkey
) -> None:
    conn = valkey.connect()
    for ls_id in (1, 2, 3):
        add_task(pool, project, ls_id)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.extend(ask(serve_web, task(3), task(1))))
    asked_at = time.time()
    thread.start()
    wait_until("queued", lambda: len(queued(conn)) == 2)
    jobs = queued(conn)
    assert [(version, digest) for version, digest, _ in jobs] == [
        ("v1", row(pool, 3).image_digest),
        ("v1", row(pool, 1).image_digest),
    ]
    assert all(deadline is not None and 4 < deadline - asked_at < 6 for _, _, deadline in jobs)
    with Hand(pool, conn):
        thread.join(5)
    assert [result["model_version"] for result in answers] == ["v1", "v1"]
    assert all(result["result"] for result in answers)


def test_many_tasks_not_yet_scored_do_not_flood_the_queue(
    serve_web: httpx.Client, pool: Pool, project: int, valkey: Valkey
) -> None:
    for ls_id in range(1, 101):
        add_task(pool, project, ls_id)
    conn = valkey.connect()
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.extend(ask(serve_web, *map(task, range(1, 101)))))
    thread.start()
    wait_until("queued", lambda: len(queued(conn)) == 64)
    assert queued(conn)[0][1] == row(pool, 1).image_digest
    with Hand(pool, conn) as hand:
        thread.join(20)
    assert [result["model_version"] for result in answers] == ["v1"] * 100
    assert len(hand.done) == 100


def test_a_lost_job_is_asked_for_again(
    serve_web: httpx.Client, pool: Pool, project: int, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "ASK_AGAIN", 0.5)
    add_task(pool, project, 5)
    conn = valkey.connect()
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.extend(ask(serve_web, task(5))))
    thread.start()
    wait_until("queued", lambda: queued(conn))
    conn.flushall()
    with Hand(pool, conn):
        thread.join(5)
    assert answers[0]["model_version"] == "v1"


def test_a_task_not_in_the_pool_is_fetched_with_the_token_and_scored(
    serve_web: httpx.Client, pool: Pool, project: int, valkey: Valkey, uploads: Uploads
) -> None:
    content = png_bytes(42, width=30, height=20)
    uploads.files["/data/upload/1/new.png"] = content
    with Hand(pool, valkey.connect()):
        [result] = ask(serve_web, task(77, "/data/upload/1/new.png"))
    assert result["model_version"] == "v1"
    assert result["result"][0]["original_width"] == 30
    stored = row(pool, 77)
    assert (stored.state, stored.error, stored.url) == ("ready", None, "/data/upload/1/new.png")
    assert pool.store.get("images", stored.image_digest or "") == content
    with pool.read() as session:
        image = session.get_one(Image, stored.image_digest)
    assert (image.width, image.height, image.format, image.size) == (30, 20, "PNG", len(content))
    assert ask(serve_web, task(77, "/data/upload/1/new.png")) == [result]
    assert uploads.asked == ["/data/upload/1/new.png"]


@pytest.mark.parametrize(
    ("url", "content", "reason"),
    [
        ("/data/gone.png", None, "status 404"),
        ("/data/text.png", b"I am a text", "text.png"),
        ("/data/empty.png", b"", "empty"),
        ("/data/cut.png", png_bytes(1)[:-200], "cut.png"),
        ("http://169.254.169.254/latest/meta-data", None, "link-local"),
        ("http://127.0.0.1:1/x.png", None, "loopback"),
    ],
)
def test_a_bad_image_marks_its_task_and_holds_up_no_other(
    serve_web: httpx.Client,
    pool: Pool,
    project: int,
    uploads: Uploads,
    caplog: pytest.LogCaptureFixture,
    url: str,
    content: bytes | None,
    reason: str,
) -> None:
    if content is not None:
        uploads.files[url] = content
    scored(pool, project, 5)
    with caplog.at_level(logging.WARNING, logger="maskloop_backend"):
        results = ask(serve_web, task(9, url), task(5))
    assert results[0] == EMPTY
    assert results[1]["model_version"] == "v1"
    failed = row(pool, 9)
    assert (failed.state, failed.attempts) == ("failed", 1)
    assert (failed.retry_at is not None) == (reason == "loopback"), "a setting may allow it"
    assert reason in (failed.error or "")
    assert failed.error is not None
    assert failed.error in caplog.text
    # Known to be bad: answered without another look.
    seen = len(uploads.asked)
    assert ask(serve_web, task(9, url)) == [EMPTY]
    assert len(uploads.asked) == seen


def test_a_passing_failure_is_tried_again_when_its_time_has_come(
    pool: Pool, project: int, valkey: Valkey, uploads: Uploads, settings: Settings
) -> None:
    token: dict[str, str] = {}
    uploads.files["/data/a.png"] = png_bytes(3)
    with serving(pool, settings, headers_for=lambda url: token) as web:
        assert ask(web, task(9, "/data/a.png")) == [EMPTY]
        failed = row(pool, 9)
        assert "401" in (failed.error or "")
        assert failed.retry_at is not None
        assert 50 < (failed.retry_at - utcnow()).total_seconds() < 61
        token |= TOKEN
        assert ask(web, task(9, "/data/a.png")) == [EMPTY]
        with pool.write() as session:
            session.execute(update(Task).values(retry_at=utcnow()))
        with Hand(pool, valkey.connect()):
            assert ask(web, task(9, "/data/a.png"))[0]["model_version"] == "v1"
    assert (row(pool, 9).state, row(pool, 9).error) == ("ready", None)


def test_an_image_that_the_worker_cannot_read_gets_its_reason(
    serve_web: httpx.Client, pool: Pool, project: int, caplog: pytest.LogCaptureFixture
) -> None:
    add_task(pool, project, 5)
    with pool.write() as session:
        session.add(Prediction(version_id="v1", image_digest=row(pool, 5).image_digest, error="broken chunk"))
    assert ask(serve_web, task(5)) == [EMPTY]
    assert "task 5: broken chunk" in caplog.text


def test_a_mask_lost_from_the_store_costs_only_its_task(
    serve_web: httpx.Client, pool: Pool, project: int, caplog: pytest.LogCaptureFixture
) -> None:
    scored(pool, project, 5)
    lost = scored(pool, project, 6)
    with pool.write() as session:
        session.execute(update(Score).where(Score.prediction_id == lost).values(mask_digest="0" * 64))
    results = ask(serve_web, task(6), task(5))
    assert results[0] == EMPTY
    assert results[1]["model_version"] == "v1"
    assert "missing from the store" in caplog.text


def test_without_redis_prepared_answers_go_on_and_the_others_say_so(
    serve_web: httpx.Client, pool: Pool, project: int, caplog: pytest.LogCaptureFixture
) -> None:
    scored(pool, project, 5)
    add_task(pool, project, 6)
    started = time.monotonic()
    results = ask(serve_web, task(5), task(6))
    assert time.monotonic() - started < 3
    assert results[0]["model_version"] == "v1"
    assert results[1] == EMPTY
    assert "the queue cannot be reached" in caplog.text


def test_the_deadline_holds_for_the_whole_request(
    pool: Pool,
    project: int,
    valkey: Valkey,
    uploads: Uploads,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.predict_deadline = 1.0
    for ls_id in (1, 2, 3):
        add_task(pool, project, ls_id)
    scored(pool, project, 5)
    uploads.delay = 30
    with serving(pool, settings, headers_for=lambda url: TOKEN) as web:
        started = time.monotonic()
        results = ask(web, task(1), task(5), task(2), task(9, "/data/slow.png"))
        seconds = time.monotonic() - started
    assert 0.9 < seconds < 2.0
    assert [result["model_version"] for result in results] == [
        "maskloop-unanswered",
        "v1",
        *["maskloop-unanswered"] * 2,
    ]
    assert "within 1 s" in caplog.text


def test_others_are_answered_while_one_waits(serve_web: httpx.Client, pool: Pool, project: int, valkey: Valkey) -> None:
    scored(pool, project, 5)
    add_task(pool, project, 6)
    thread = threading.Thread(target=ask, args=(serve_web, task(6)))
    thread.start()
    with httpx.Client(base_url=serve_web.base_url, auth=serve_web.auth) as other:
        seconds = []
        for _ in range(20):
            started = time.monotonic()
            assert ask(other, task(5))[0]["model_version"] == "v1"
            seconds.append(time.monotonic() - started)
    assert sorted(seconds)[-2] < 0.2
    with Hand(pool, valkey.connect()):
        thread.join(5)


def test_the_cache_is_bounded_by_bytes() -> None:
    cache = ResultCache(100)
    for number in range(10):
        cache.put((number,), b"x" * 30)
    assert cache.bytes == 90
    assert [number for number in range(10) if cache.get((number,))] == [7, 8, 9]
    cache.get((7,))
    cache.put((10,), b"x" * 30)
    assert cache.get((8,)) is None
    assert cache.get((7,)) is not None
    cache.put((7,), b"y" * 101)
    assert cache.get((7,)) is None
    assert cache.bytes == 60
