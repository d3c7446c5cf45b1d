"""The ML-backend protocol over real HTTP: credentials, errors, /health, /setup, /webhook, /versions, /metrics."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pool_fixture import add_model, add_project, add_task
from sqlalchemy import select
from valkey_fixture import Valkey, wait_until
from web_fixture import CREDENTIALS, add_prediction, add_version, serving

from maskloop_backend.web.bodies import parse_object
from maskloop_backend.web.errors import WebError
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Task, TrainRequest
from maskloop_learner.settings import Settings
from maskloop_queue.wake import wait_for_wake

PAYLOADS = Path(__file__).resolve().parents[2] / "shared" / "payloads"
ENDPOINTS = [("POST", "/setup"), ("POST", "/predict"), ("POST", "/webhook"), ("GET", "/versions"), ("GET", "/metrics")]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """One application for all tests that leave no trace; its Redis is down."""
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    with serving(Pool.open(settings), settings) as client:
        yield client


def payload(name: str) -> Any:
    """The body of a request that Label Studio 1.23 was seen to send."""
    path = PAYLOADS / f"{name}.json"
    if not path.exists():
        pytest.skip(f"no captured request {path}")
    return json.loads(path.read_text())["body"]


def assert_error(response: httpx.Response, status: int, what: str) -> None:
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"what", "value", "fix"}
    assert what in error["what"]
    assert error["fix"]


@pytest.mark.parametrize(("method", "path"), [*ENDPOINTS, ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/")])
def test_everything_but_health_asks_for_credentials(plain: httpx.Client, method: str, path: str) -> None:
    for auth in (None, ("maskloop", "wrong"), ("", "")):
        response = httpx.request(method, str(plain.base_url) + path, auth=auth)
        assert_error(response, 401, "credentials")
        assert response.headers["WWW-Authenticate"].startswith("Basic realm=")


def test_the_header_that_connect_gives_to_webhooks_is_accepted(plain: httpx.Client) -> None:
    headers = {"Authorization": CREDENTIALS.header}
    assert httpx.get(str(plain.base_url) + "/versions", headers=headers).status_code == 200


def test_health_is_open_and_says_up(plain: httpx.Client) -> None:
    response = httpx.get(str(plain.base_url) + "/health")
    assert response.status_code == 200
    assert response.json()["status"] == "UP"


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/health/", "/validate"])
def test_there_is_nothing_else(plain: httpx.Client, path: str) -> None:
    assert_error(plain.get(path, follow_redirects=False), 404, "Not Found")


def test_wrong_method(plain: httpx.Client) -> None:
    assert_error(plain.get("/predict"), 405, "Method")


@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}", b'{"a": 1} x']
)
def test_malformed_json_is_named(plain: httpx.Client, path: str, body: bytes) -> None:
    assert_error(plain.post(path, content=body), 400, "not valid JSON")


@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook"])
@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"x"'])
def test_what_is_not_an_object_is_named(plain: httpx.Client, path: str, body: bytes) -> None:
    assert_error(plain.post(path, content=body), 400, "not a JSON object")


@pytest.mark.parametrize("project", [None, "", "x", "1x.2", -1, 0, True, 1.5, [1], "99999999999"])
def test_a_project_that_is_none_is_named(plain: httpx.Client, project: Any) -> None:
    assert_error(plain.post("/setup", json={"project": project}), 400, "`project`")
    assert_error(plain.post("/predict", json={"project": project, "tasks": []}), 400, "`project`")


def test_bodies_over_the_limit_are_refused_whatever_they_say_of_their_length(plain: httpx.Client) -> None:
    too_much = 4 << 20
    assert_error(plain.post("/setup", content=b" " * (too_much + 1)), 413, "larger than")
    chunks = (b" " * 65536 for _ in range(too_much // 65536 + 1))
    assert_error(plain.post("/setup", content=chunks), 413, "larger than")
    assert plain.get("/health").status_code == 200


def test_setup_names_the_version_that_is_served(web: httpx.Client, pool: Pool) -> None:
    body = payload("setup")
    assert web.post("/setup", json=body).json() == {"model_version": "maskloop-untrained"}
    project = add_project(pool, ls_id=1)
    assert web.post("/setup", json=body).json() == {"model_version": "maskloop-untrained"}
    model = add_model(pool, project)
    for version in ("v1", "v2"):
        add_version(pool, project, model, version)
        assert web.post("/setup", json=body).json() == {"model_version": version}


def test_versions_are_listed_newest_first(web: httpx.Client, pool: Pool) -> None:
    assert web.get("/versions").json() == {"versions": []}
    for ls_id in (1, 2):
        project = add_project(pool, ls_id=ls_id)
        model = add_model(pool, project)
        for number in (1, 2):
            add_version(pool, project, model, f"p{ls_id}-v{number}")
    assert web.get("/versions").json() == {"versions": ["p2-v2", "p2-v1", "p1-v2", "p1-v1"]}
    assert web.get("/versions", params={"project": "1.1795397810"}).json() == {"versions": ["p1-v2", "p1-v1"]}


def test_start_training_leaves_a_request_and_wakes_sync(web: httpx.Client, pool: Pool, valkey: Valkey) -> None:
    body = payload("webhook_START_TRAINING")
    assert_error(web.post("/webhook", json=body), 404, "not connected")
    project = add_project(pool, ls_id=1)
    response = web.post("/webhook", json=body)
    with pool.read() as session:
        requests = session.scalars(select(TrainRequest)).all()
    assert [(row.project_id, row.cause, row.round_id) for row in requests] == [(project, "button", None)]
    assert response.json() == {"status": "ok", "job": f"request-{requests[0].id}"}
    assert wait_for_wake(valkey.connect(), 5) == {1}


def test_webhooks_wake_sync_for_their_project_and_nothing_else(web: httpx.Client, pool: Pool, valkey: Valkey) -> None:
    add_project(pool, ls_id=1)
    actions = ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED"]
    for name in [*actions, "PROJECT_UPDATED"]:
        response = web.post("/webhook", json=payload(f"webhook_{name}"))
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
        assert wait_for_wake(valkey.connect(), 5) == {1}
    with pool.read() as session:
        assert session.scalars(select(Task)).all() == []
        assert session.scalars(select(TrainRequest)).all() == []


def test_a_webhook_without_payload_wakes_the_project_of_its_header_or_else_every_one(
    web: httpx.Client, pool: Pool, valkey: Valkey
) -> None:
    add_project(pool, ls_id=1)
    add_project(pool, ls_id=2)
    headers = {"X-Maskloop-Project": "2"}
    assert web.post("/webhook", json={"action": "ANNOTATION_CREATED"}, headers=headers).status_code == 200
    assert wait_for_wake(valkey.connect(), 5) == {2}
    assert web.post("/webhook", json={"action": "ANNOTATION_CREATED"}).status_code == 200
    assert wait_for_wake(valkey.connect(), 5) == {1, 2}


@pytest.mark.parametrize("action", [None, "", 1, ["X"], "x y", "A" * 65])
def test_a_webhook_without_an_action_is_named(plain: httpx.Client, action: Any) -> None:
    assert_error(plain.post("/webhook", json={"action": action, "project": {"id": 1}}), 400, "`action`")


def test_webhooks_are_answered_at_once_while_redis_is_down(web: httpx.Client, pool: Pool, valkey: Valkey) -> None:
    add_project(pool, ls_id=1)
    valkey.stop()
    for _ in range(5):
        started = time.monotonic()
        assert web.post("/webhook", json={"action": "ANNOTATION_CREATED", "project": {"id": 1}}).status_code == 200
        assert time.monotonic() - started < 0.25
    assert web.post("/webhook", json=payload("webhook_START_TRAINING")).json()["job"] == "request-1"
    conn = valkey.start()
    web.post("/webhook", json={"action": "ANNOTATION_CREATED", "project": {"id": 1}})
    assert wait_for_wake(conn, 5) == {1}


def test_tens_of_megabytes_of_rle_do_not_hold_up_others(web: httpx.Client, pool: Pool, valkey: Valkey) -> None:
    add_project(pool, ls_id=3)
    rle = b"[" + b"255, 0, 17, " * 3_000_000 + b"1]"
    body = b'{"action": "ANNOTATION_UPDATED", "annotation": {"result": [{"value": {"rle": ' + rle
    body += b'}}]}, "project": {"id": 3}}'
    assert len(body) > 30e6
    slowest = 0.0
    with httpx.Client(base_url=web.base_url) as other:
        done = threading.Event()
        answers: list[int] = []

        def send() -> None:
            answers.append(web.post("/webhook", content=body).status_code)
            done.set()

        thread = threading.Thread(target=send)
        thread.start()
        while not done.is_set():
            started = time.monotonic()
            other.get("/health")
            slowest = max(slowest, time.monotonic() - started)
        thread.join()
    assert answers == [200]
    assert slowest < 0.5
    assert wait_for_wake(valkey.connect(), 5) == {3}


def test_large_bodies_are_parsed_without_what_is_dropped() -> None:
    padding = "x" * 70_000
    inner = {"annotation": {"a": '"]}{[\\"', "b": [{"project": {"id": 9}}]}, "quote": '\\"annotation": [', "é": "ü\n"}
    body = {"pad": padding, "annotation": inner, "keep": inner, "project": {"id": 1, "annotation": {"x": 1}}}
    expected = {**body, "annotation": None}
    for separators in ((",", ":"), (", ", ": "), (" ,\n", "\t: ")):
        text = json.dumps(body, separators=separators).encode()
        assert parse_object(text, drop=frozenset({b"annotation"})) == expected
        assert parse_object(text) == body
    tasks = {"pad": padding, "tasks": [{"id": 1, "drafts": [{"id": 2}], "data": {"drafts": [3]}}], "drafts": [4]}
    kept = {"pad": padding, "tasks": [{"id": 1, "drafts": None, "data": {"drafts": [3]}}], "drafts": [4]}
    assert parse_object(json.dumps(tasks).encode(), drop=frozenset({b"drafts"}), depth=3) == kept


@pytest.mark.parametrize(
    "tail",
    ["", "]", "}}", ', "annotation": [', ', "annotation": [}', ', "annotation": {"a": [}]', ', "x', ', "x\\'],
)
def test_large_malformed_bodies_are_named(tail: str) -> None:
    text = b'{"pad": "' + b"x" * 70_000 + b'"' + tail.encode()
    with pytest.raises(WebError, match="not valid JSON"):
        parse_object(text, drop=frozenset({b"annotation"}))


def test_an_endless_string_costs_no_endless_time() -> None:
    started = time.monotonic()
    with pytest.raises(WebError, match="not valid JSON"):
        parse_object(b'{"a": "' + rb"\"" * 500_000 + b"\\", drop=frozenset({b"annotation"}))
    assert time.monotonic() - started < 2


def test_metrics_count_what_is_there(pool: Pool, settings: Settings, valkey: Valkey) -> None:
    project = add_project(pool, ls_id=4)
    add_version(pool, project, add_model(pool, project), "v1")
    for ls_id in (1, 2):
        add_task(pool, project, ls_id)
    with pool.read() as session:
        digest = session.scalars(select(Task.image_digest)).first()
    add_prediction(pool, "v1", digest or "")
    with serving(pool, settings) as web:
        web.get("/health")
        httpx.get(str(web.base_url) + "/versions")
        response = web.get("/metrics")
        assert response.headers["Content-Type"].startswith("text/plain")
        lines = response.text.splitlines()
        for line in [
            'maskloop_tasks{project="4",state="ready"} 2.0',
            'maskloop_predictions{project="4",version="v1"} 1.0',
            "maskloop_queue_up 1.0",
            'maskloop_jobs{queue="gpu",state="queued"} 0.0',
            'maskloop_workers{queue="training"} 0.0',
            'maskloop_requests_total{endpoint="/health",status="200"} 1.0',
            'maskloop_requests_total{endpoint="/versions",status="401"} 1.0',
        ]:
            assert line in lines
        # Kept for some seconds: a scraper in a hurry does not load the pool.
        add_task(pool, project, 3)
        assert 'maskloop_tasks{project="4",state="ready"} 2.0' in web.get("/metrics").text
        assert any(line.startswith("process_resident_memory_bytes") for line in lines)


def test_metrics_without_redis(pool: Pool, settings: Settings) -> None:
    with serving(pool, settings) as web:
        assert "maskloop_queue_up 0.0" in web.get("/metrics").text.splitlines()


def test_a_failing_pool_is_an_error_and_not_an_empty_answer(web: httpx.Client, pool: Pool) -> None:
    with pool.write() as session:
        session.connection().exec_driver_sql("ALTER TABLE projects RENAME TO hidden")
    assert_error(web.post("/setup", json={"project": "1"}), 503, "database")
    wait_until("up", lambda: web.get("/health").status_code == 200)
