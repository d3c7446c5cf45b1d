"""Real worker processes against a real Valkey, as a pytest plugin."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from rq import Queue, Retry
from valkey_fixture import FLOORS, ROOT, Valkey, wait_until
from worker_script import EXTRA

from maskloop_queue.janitor import clean
from maskloop_queue.jobs import JOBS
from maskloop_queue.queues import gpu_queue, training_queue

LEASE = 2


class Workers:
    """Starts workers on one Valkey and reads what their jobs noted."""

    def __init__(self, valkey: Valkey, folder: Path) -> None:
        self.valkey = valkey
        self.conn = valkey.connect(patience=5)
        self.folder = folder
        self.notes_path = str(folder / "notes")
        self.beat = folder / "beat"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, kind: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a worker; its output goes to the test's folder."""
        with open(self.folder / "workers.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "worker_script.py"), kind],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={
                    **os.environ,
                    "PYTHONPATH": FLOORS,
                    "MASKLOOP_HOME": str(self.valkey.settings.home),
                    "MASKLOOP_WORKER_LEASE": str(LEASE),
                    "MASKLOOP_TRAINING_THREADS": "1",
                    "MASKLOOP_BEAT": str(self.beat),
                    **env,
                },
            )
        self.processes.append(process)
        return process

    @property
    def log(self) -> str:
        """What all workers printed."""
        return (self.folder / "workers.log").read_text()

    def put(self, queue: Queue, name: str, *args: Any, job_id: str = "job-1") -> str:
        """Enqueue one of the script's extra jobs with the notes as its first argument."""
        queue.enqueue_call(
            f"extra.{name}",
            args=(self.notes_path, *args),
            job_id=job_id,
            unique=True,
            result_ttl=0,
            failure_ttl=60,
            retry=Retry(max=3),
        )
        return job_id

    def notes(self, word: str) -> list[dict[str, Any]]:
        """The notes with this word, oldest first."""
        if not os.path.exists(self.notes_path):
            return []
        with open(self.notes_path) as file:
            return [entry for entry in map(json.loads, file) if entry["word"] == word]

    def wait(self, word: str, count: int = 1, *, cleaning: bool = False, timeout: float = 60.0) -> float:
        """Wait until so many jobs noted `word`, cleaning up as sync does if told so; return the seconds."""
        wait = self.wait_clean if cleaning else wait_until
        try:
            return wait(f"{count} x {word!r}", lambda: len(self.notes(word)) >= count, timeout)
        finally:
            print(self.log)

    def wait_clean(self, what: str, check: Callable[[], object], timeout: float = 60.0) -> float:
        """Wait until `check` is true, cleaning up as sync does; return the seconds."""

        def clean_and_check() -> object:
            clean(self.conn)
            return check()

        return wait_until(what, clean_and_check, timeout, every=0.1)

    def wait_idle(self, queue: Queue, timeout: float = 60.0) -> None:
        """Wait until nothing is queued or started."""
        registry = queue.started_job_registry
        wait_until("idle", lambda: not queue.count and not registry.get_job_count(cleanup=False), timeout)

    def end(self, process: subprocess.Popen[bytes], number: signal.Signals) -> int:
        """Send a signal and wait for the exit code."""
        process.send_signal(number)
        return process.wait(timeout=15)

    def close(self) -> None:
        """Kill what still runs, and see that no child of it is left."""
        children = []
        for process in self.processes:
            if process.poll() is None:
                children += psutil.Process(process.pid).children(recursive=True)
                process.kill()
                process.wait()
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive, f"orphans: {alive}"


@pytest.fixture
def workers(shared_valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    """Workers with extra jobs, and a lease of two seconds."""
    for name, job in EXTRA.items():
        monkeypatch.setitem(JOBS, name, job)
    found = Workers(shared_valkey, tmp_path)
    yield found
    found.close()


@pytest.fixture
def gpu(workers: Workers) -> Queue:
    """The queue of predictions."""
    return gpu_queue(workers.conn)


@pytest.fixture
def training(workers: Workers) -> Queue:
    """The queue of training rounds."""
    return training_queue(workers.conn)


def put_by_hand(conn: redis.Redis, queue: Queue, job_id: str, data: bytes) -> None:
    """What somebody with access to Redis can do: a job without our enqueueing."""
    conn.hset(
        f"maskloop:job:{job_id}", mapping={"data": data, "status": "queued", "origin": queue.name, "failure_ttl": 60}
    )
    conn.rpush(queue.key, job_id)
