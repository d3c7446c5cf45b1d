"""The web process's application on a free port over a real pool and a real Valkey, and a hand that scores."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import redis
import uvicorn
from valkey_fixture import Valkey, wait_until

from maskloop_backend.credentials import Credentials
from maskloop_backend.fetch import FetchError
from maskloop_backend.web.app import create_app
from maskloop_learner.pool.masks import encode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Image, Prediction, PredictionVersion, Score
from maskloop_learner.settings import Settings
from maskloop_queue.jobs import fetch
from maskloop_queue.queues import gpu_queue

CREDENTIALS = Credentials("maskloop", "test-password")


def no_token(ls_url: str) -> dict[str, str]:
    """Headers for Label Studio where a test needs none."""
    raise FetchError(ls_url, "has no token", "Run `maskloop connect`.")


@contextmanager
def serving(
    pool: Pool, settings: Settings, *, headers_for: Callable[[str], dict[str, str]] = no_token
) -> Iterator[httpx.Client]:
    """The application behind real HTTP; yields a client with the right credentials."""
    app = create_app(pool, settings=settings, credentials=CREDENTIALS, headers_for=headers_for)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        wait_until("listening", lambda: server.started, every=0.01)
        auth = (CREDENTIALS.username, CREDENTIALS.password)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=auth, timeout=30) as client:
            yield client
        app.state.services.predictor.stopping.set()
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def web(pool: Pool, settings: Settings, valkey: Valkey) -> Iterator[httpx.Client]:
    """The application with a queue; `settings.predict_deadline` is short."""
    settings.predict_deadline = 5.0
    with serving(pool, settings) as client:
        yield client


def add_version(pool: Pool, project_id: int, model_id: int, version: str) -> None:
    """A prediction version that becomes the one to serve."""
    with pool.write() as session:
        session.add(PredictionVersion(id=version, project_id=project_id, model_id=model_id, config={}))
        session.flush()
        champion = session.get(Champion, project_id)
        if champion is None:
            session.add(Champion(project_id=project_id, model_id=model_id, version_id=version))
        else:
            champion.version_id = version


def add_prediction(
    pool: Pool, version: str, digest: str, *, uncertainty: float = 0.25, label: str = "Tumor", prompts: str = ""
) -> int:
    """A prediction with a box as its mask; returns its id."""
    with pool.read() as session:
        image = session.get_one(Image, digest)
    mask = np.zeros((image.height, image.width), bool)
    mask[1 : image.height // 2, 2 : image.width // 2] = True
    mask_digest = pool.store.put("masks", encode_mask(mask))
    figures: dict[str, Any] = {"expected_entropy": 0.1, "mutual_information": 0.15, "variance": 0.02}
    with pool.write() as session:
        prediction = Prediction(version_id=version, image_digest=digest, prompt_digest=prompts, uncertainty=uncertainty)
        session.add(prediction)
        session.flush()
        session.add(
            Score(
                prediction_id=prediction.id,
                label=label,
                mask_digest=mask_digest,
                area=int(mask.sum()),
                probability=0.9,
                predictive_entropy=uncertainty,
                method="mc",
                samples=30,
                **figures,
            )
        )
        return prediction.id


class Hand:
    """Takes scoring jobs off the real queue, as a GPU worker does, and writes made-up predictions."""

    def __init__(self, pool: Pool, conn: redis.Redis) -> None:
        self.pool, self.conn = pool, conn
        self.done: list[tuple[str, str, float | None]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        queue = gpu_queue(self.conn)
        while not self._stop.wait(0.01):
            for job_id in queue.get_job_ids(length=1):
                job = fetch(self.conn, job_id)
                assert job is not None
                version, digest, deadline, prompts = job.args
                add_prediction(self.pool, version, digest, prompts=prompts)
                self.done.append((version, digest, deadline))
                job.delete()

    def __enter__(self) -> "Hand":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)


def queued(conn: redis.Redis) -> list[tuple[str, str, float | None]]:
    """Arguments of the scoring jobs in the queue, the next one first."""
    jobs = [fetch(conn, job_id) for job_id in gpu_queue(conn).get_job_ids()]
    return [tuple(job.args[:3]) for job in jobs if job is not None]
