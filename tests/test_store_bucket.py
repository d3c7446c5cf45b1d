"""The store in a bucket: a real S3 server, that also fails, is away, or comes back."""

import json
import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pool_fixture import add_model, add_project, add_task
from rq import Queue
from s3_fixture import ACCESS_KEY, REGION, SECRET_KEY, S3Server
from sqlalchemy import func, select
from web_fixture import add_prediction, add_version
from worker_fixture import Workers

from maskloop_backend.backup.restoring import restore
from maskloop_backend.backup.saving import save
from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.sync.push import Pusher
from maskloop_learner.pool import bucket as product
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Model, Prediction, Project, Task
from maskloop_learner.pool.store import BlobError, Store, StoreDown
from maskloop_learner.settings import Settings
from maskloop_learner.train.fallback import look_after

pytestmark = pytest.mark.slow
KEYS = {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, "region": REGION}


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """A new bucket."""
    name = f"pool-{uuid4().hex[:8]}"
    s3.client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def store(s3: S3Server, bucket: str) -> Store:
    """A store in a folder of the bucket."""
    return Store(f"s3://{bucket}/maskloop", {"endpoint": s3.url, **KEYS})


class Failing(ThreadingHTTPServer):
    """Passes requests on to an S3 server after it has answered `faults` of them with 503."""

    def __init__(self, target: str) -> None:
        self.target, self.faults, self.seen = target, 0, 0
        super().__init__(("127.0.0.1", 0), _Relay)

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Relay(BaseHTTPRequestHandler):
    server: Failing
    protocol_version = "HTTP/1.1"

    def _relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen += 1
        if self.server.faults > 0:
            self.server.faults -= 1
            self._answer(503, {}, b"<Error><Code>SlowDown</Code></Error>")
            return
        found = httpx.request(self.command, self.server.target + self.path, headers=dict(self.headers), content=body)
        kept = {name: value for name, value in found.headers.items() if name in ("etag", "last-modified", "x-amz-id-2")}
        if self.command == "HEAD":
            kept["Content-Length"] = found.headers.get("content-length", "0")
        self._answer(found.status_code, kept, found.content)

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _relay

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def failing(s3: S3Server) -> Iterator[Failing]:
    """The server behind a proxy that fails on demand."""
    server = Failing(s3.url)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_a_bucket_keeps_bytes_by_digest(store: Store, s3: S3Server, bucket: str) -> None:
    """As a folder does: one place for the same bytes, altered and missing blobs are refused by name and mended."""
    data = os.urandom(7_000_000)  # more than one part of an upload
    digest = store.put("weights", data)
    assert store.put("weights", data) == digest
    assert store.get("weights", digest) == data
    assert store.exists("weights", digest)
    assert not store.exists("images", digest)
    key = f"maskloop/weights/{digest[:2]}/{digest}"
    s3.client.put_object(Bucket=bucket, Key=key, Body=data[:-1])
    with pytest.raises(BlobError, match=f"{digest}.*altered"):
        store.get("weights", digest)
    store.put("weights", data)
    assert store.get("weights", digest) == data
    s3.client.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(BlobError, match=f"{digest}.*missing"):
        store.get("weights", digest)
    assert store.sweep() == 0


def test_blobs_are_listed_and_removed(store: Store, s3: S3Server, bucket: str) -> None:
    """Each kind by itself, by the first digits of its digests too; what is no blob of ours is left out."""
    digests = {store.put("masks", bytes([n]) * n) for n in range(1, 6)}
    store.put("images", b"other")
    s3.client.put_object(Bucket=bucket, Key="maskloop/masks/README", Body=b"by hand")
    assert sorted(store.list_blobs("masks")) == sorted(digests)
    assert sorted(store.size("masks", digest) for digest in digests) == [1, 2, 3, 4, 5]
    for length in (1, 2, 5, 64):
        for digest in digests:
            alike = {each for each in digests if each.startswith(digest[:length])}
            assert set(store.list_blobs("masks", digest[:length])) == alike
    gone = digests.pop()
    assert store.delete("masks", gone)
    assert not store.delete("masks", gone)
    assert set(store.list_blobs("masks")) == digests


def test_blobs_go_by_their_age(store: Store) -> None:
    """A bucket knows when a blob was put last, and putting it again makes it new."""
    digest = store.put("masks", b"left over")
    assert not store.is_older("masks", digest, timedelta(hours=1))
    assert not store.discard("masks", digest, grace=timedelta(hours=1))
    time.sleep(3)  # the server's times are of whole seconds
    assert store.is_older("masks", digest, timedelta(seconds=2))
    store.put("masks", b"left over")
    assert not store.discard("masks", digest, grace=timedelta(seconds=2))
    time.sleep(3)
    assert store.discard("masks", digest, grace=timedelta(seconds=2))
    assert not store.discard("masks", digest, grace=timedelta(0))
    assert not store.is_older("masks", digest, timedelta(0))
    with pytest.raises(BlobError, match="missing"):
        store.size("masks", digest)


def test_keys_may_come_from_the_environment(s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that all AWS tools read."""
    values = {"ACCESS_KEY_ID": ACCESS_KEY, "SECRET_ACCESS_KEY": SECRET_KEY, "ENDPOINT_URL": s3.url, "REGION": REGION}
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    store = Store(f"s3://{bucket}/elsewhere")
    assert store.get("images", store.put("images", b"abc")) == b"abc"


def test_an_answer_of_503_is_asked_again(failing: Failing, bucket: str) -> None:
    """A busy server costs a moment; one that stays so is an error that says what to do, without keys in it."""
    store = Store(f"s3://{bucket}", {"endpoint": failing.url, **KEYS})
    failing.faults = 2
    digest = store.put("images", b"abc")
    failing.faults = 2
    assert store.get("images", digest) == b"abc"
    failing.faults, failing.seen = 1000, 0
    with pytest.raises(StoreDown, match=r"fails to take images/.*503.*is the server up") as caught:
        store.put("images", b"def")
    assert failing.seen == product.LIMITS["retry_config"]["max_retries"] + 1
    assert SECRET_KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    failing.faults = 0
    assert store.get("images", store.put("images", b"def")) == b"def"


def test_a_bucket_that_is_not_there_or_refuses_our_keys(s3: S3Server) -> None:
    """Each says what failed."""
    with pytest.raises(StoreDown, match="NoSuchBucket"):
        Store("s3://nobody-made-this", {"endpoint": s3.url, **KEYS}).put("images", b"abc")
    with pytest.raises(StoreDown, match="NoSuchBucket"):
        Store("s3://nobody-made-this", {"endpoint": s3.url, **KEYS}).get("images", "0" * 64)
    with pytest.raises(StoreDown, match=r"fails to take images/.*error sending request"):
        Store("s3://pool", {"endpoint": "http://127.0.0.1:9", **KEYS}).put("images", b"abc")


def test_a_bucket_that_is_away_has_lost_nothing(
    failing: Failing, bucket: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No prediction is thrown away, no model is called broken, no backup leaves a blob out; later all goes on."""
    monkeypatch.setitem(product.LIMITS, "retry_config", {"max_retries": 1, "retry_timeout": timedelta(seconds=5)})
    settings.store_url = f"s3://{bucket}/maskloop"
    settings.store_options = json.dumps({"endpoint": failing.url, **KEYS})
    pool = Pool.open(settings)
    project = add_project(pool)
    task, model = add_task(pool, project, 1), add_model(pool, project)
    add_version(pool, project, model, "v1")
    with pool.read() as session:
        row, image = session.get_one(Project, project), str(session.get_one(Task, task).image_digest)
    add_prediction(pool, "v1", image)
    pusher = Pusher(pool=pool, client=LabelStudio("http://127.0.0.1:9", "token"), beat=lambda: None)
    ready = pusher._ready(project, "v1")
    assert len(ready) == 1
    failing.faults = 1000
    with pytest.raises(StoreDown):
        list(pusher._chunks(row, ready))
    with pytest.raises(StoreDown):
        look_after(pool, project, settings)
    with pytest.raises(StoreDown):
        save(settings, tmp_path / "backup")
    failing.faults = 0
    with pool.read() as session:
        assert session.scalar(select(func.count(Prediction.id))) == 1
        assert session.get_one(Model, model).fault is None
    assert len(list(pusher._chunks(row, ready))) == 1
    assert look_after(pool, project, settings)
    assert save(settings, tmp_path / "backup").missing == []
    there: dict[str, Any] = {"store_url": f"s3://{bucket}/again", "store_options": settings.store_options}
    restored = restore(tmp_path / "backup", Settings(home=tmp_path / "new", **there))
    assert restored.manifest.blob_count == 3
    again = Pool.open(Settings(home=tmp_path / "new", **there))
    assert again.store.get("images", image) == pool.store.get("images", image)


def test_a_forked_training_uses_the_bucket(workers: Workers, training: Queue, s3: S3Server, bucket: str) -> None:
    """The library's threads do not outlive a fork: the child opens the store by itself, job after job."""
    workers.start(
        "training",
        MASKLOOP_STORE_URL=f"s3://{bucket}/maskloop",
        MASKLOOP_STORE_OPTIONS=json.dumps({"endpoint": s3.url, **KEYS}),
    )
    for number in range(2):
        workers.put(training, "keep", f"blob {number}", job_id=f"job-{number}")
    workers.wait("kept", 2, timeout=40)
    assert len({entry["pid"] for entry in workers.notes("kept")}) == 2
    assert all(entry["pid"] != entry["parent"] for entry in workers.notes("kept"))
    keys = [item["Key"] for item in s3.client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert sorted(keys) == sorted(
        f"maskloop/manifests/{entry['digest'][:2]}/{entry['digest']}" for entry in workers.notes("kept")
    )
