"""Real processes of two hosts, each with a home folder of its own, over one PostgreSQL, one bucket and one Valkey."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from pool_fixture import add_model, add_project, add_task
from postgres_fixture import PASSWORD, Postgres
from s3_fixture import ACCESS_KEY, REGION, SECRET_KEY, S3Server
from sqlalchemy import func, select
from valkey_fixture import FLOORS, Valkey, wait_until

from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.checkpoint import save_weights
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.pool.masks import decode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Model, Prediction, Project, Score
from maskloop_learner.settings import Settings
from maskloop_learner.train.registry import ensure_version, set_champion
from maskloop_queue.valkey import redis_url

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
IMAGES = 16


class Host:
    """A machine: its home folder, and processes of Maskloop as a container runs them."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.home, self.environment = home, environment
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        home.mkdir()

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """`maskloop WORDS`."""
        name = "-".join(words)
        with open(self.home / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "maskloop_backend", *words],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": FLOORS, "MASKLOOP_HOME": str(self.home), **self.environment},
            )
        return self.processes[name]

    def log(self, name: str) -> str:
        """What a process said."""
        return (self.home / f"{name}.log").read_text()

    def close(self) -> None:
        """Kill what still runs."""
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


@pytest.fixture
def installation(postgres_url: str, s3: S3Server, shared_valkey: Valkey, tmp_path: Path) -> dict[str, str]:
    """The environment that the hosts share; passwords come by file."""
    bucket = f"hosts-{uuid4().hex[:8]}"
    s3.client.create_bucket(Bucket=bucket)
    secrets = {
        "DATABASE_URL": postgres_url,
        "REDIS_URL": redis_url(shared_valkey.settings),
        "STORE_OPTIONS": json.dumps(
            {"endpoint": s3.url, "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, "region": REGION}
        ),
    }
    found = {"MASKLOOP_STORE_URL": f"s3://{bucket}/maskloop", "MASKLOOP_SAMPLES": "2", "MASKLOOP_GPU_THREADS": "1"}
    for name, value in secrets.items():
        (tmp_path / name).write_text(value + "\n")
        found[f"MASKLOOP_{name}_FILE"] = str(tmp_path / name)
    return found | {"MASKLOOP_WORKER_LEASE": "5"}


@pytest.fixture
def pool(installation: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """The pool as the hosts see it: a project whose Label Studio is down, with a champion and images."""
    for name, value in installation.items():
        monkeypatch.setenv(name, value)
    settings = Settings(home=tmp_path / "here")
    pool = Pool.open(settings)
    project_id = add_project(pool)
    model_id = add_model(pool, project_id, save_weights(MedCLIPSeg(BACKBONES["nano"], seed=6), meta={}))
    with pool.write() as session:
        project, model = session.get_one(Project, project_id), session.get_one(Model, model_id)
        version = ensure_version(session, project, model, settings)
        set_champion(session, project_id=project_id, model_id=model_id, version_id=version, fence=0, by="test")
    for number in range(1, IMAGES + 1):
        add_task(pool, project_id, number)
    yield pool
    pool.close()


@pytest.fixture
def hosts(installation: dict[str, str], tmp_path: Path) -> Iterator[list[Host]]:
    """Two machines."""
    found = [Host(tmp_path / name, installation) for name in ("a", "b")]
    yield found
    for host in found:
        host.close()


def predicted(pool: Pool) -> int:
    """Images that have their prediction."""
    with pool.read() as session:
        return session.scalar(select(func.count(Prediction.id))) or 0


def watched(what: str, check: Callable[[], object], hosts: list[Host], timeout: float) -> float:
    """Wait, and show the hosts' logs when it takes too long."""
    try:
        return wait_until(what, check, timeout, every=0.2)
    finally:
        for host in hosts:
            for name in host.processes:
                print(f"--- {host.home.name} {name}\n{host.log(name)[-3000:]}")


def test_the_database_and_a_host_go_away_at_work(pool: Pool, hosts: list[Host], postgres: Postgres) -> None:
    """Every image is predicted; the workers live through it, and the other host's sync takes over."""
    a, b = hosts
    first = a.start("sync")
    watched("at work", lambda: "no token is kept" in a.log("sync"), hosts, 60)
    second = b.start("sync")
    watched("standing by", lambda: "stands by" in b.log("sync"), hosts, 60)
    workers = [a.start("worker", "gpu"), b.start("worker", "gpu")]
    watched("some predictions", lambda: predicted(pool) >= 3, hosts, 90)
    postgres.stop(signal.SIGKILL)
    time.sleep(3)
    before = time.monotonic()
    postgres.start()
    first.kill()
    first.wait(10)
    watched("all predictions", lambda: predicted(pool) == IMAGES, hosts, 120)
    print(f"\n{IMAGES} images are predicted {time.monotonic() - before:.1f} s after the database came back")
    assert second.poll() is None
    assert [worker.poll() for worker in workers] == [None, None]
    with pool.read() as session:
        scores = list(session.scalars(select(Score)))
    assert len(scores) == IMAGES
    assert all(decode_mask(pool.store.get("masks", score.mask_digest)).shape == (16, 24) for score in scores)
    for process in (second, *workers):
        process.send_signal(signal.SIGTERM)
    assert [process.wait(20) for process in (second, *workers)] == [0, 0, 0]
    for host in hosts:
        for name in host.processes:
            assert PASSWORD not in host.log(name)
            assert SECRET_KEY not in host.log(name)
            assert "Traceback" not in host.log(name)
