"""The whole of Maskloop for the slow tests: `maskloop demo` as a real process with real Label Studio and Valkey."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pytest
from labelstudio_fixture import LabelStudioServer, find_program
from sqlalchemy import select

from maskloop_backend.demo.host import load_account
from maskloop_backend.labelstudio.client import Annotation, LabelStudio
from maskloop_backend.labelstudio.config import read_interface
from maskloop_backend.masks.regions import to_regions
from maskloop_learner.pool.masks import Mask, decode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import Ranked, current_version, prediction_for, ranking, scores_of
from maskloop_learner.pool.schema import Label, Project, Round, Task
from maskloop_learner.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
STEPS = 40
"""Optimizer steps of a training: enough to run the loop through, not to draw well."""
READY_SECONDS = 420.0


class Demo:
    """A `maskloop demo` on ports and a home folder of its own."""

    def __init__(self, home: Path, program: str, **settings: str) -> None:
        self.home = home
        self.port, self.label_studio_port = _free_ports(2)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("MASKLOOP_")} | {
            "MASKLOOP_HOME": str(home),
            "MASKLOOP_PORT": str(self.port),
            "MASKLOOP_LABEL_STUDIO_PORT": str(self.label_studio_port),
            "MASKLOOP_LABEL_STUDIO": program,
            "MASKLOOP_TRAIN_STEPS": str(STEPS),
            "MASKLOOP_CHECKPOINT_STEPS": "10",
            "MASKLOOP_SYNC_INTERVAL": "10",
            "MASKLOOP_TRIGGER_QUIET": "0",
            "MASKLOOP_FULL_CHECK_INTERVAL": "20",
            "MASKLOOP_WORKER_LEASE": "8",
            "MASKLOOP_SAMPLES": "8",
            # So few steps may end below the champion: the gate has tests of its own.
            "MASKLOOP_GATE_MARGIN": "0.5",
            **settings,
        }
        self.settings = Settings(home=home, port=self.port, label_studio_port=self.label_studio_port)
        self.url = f"http://127.0.0.1:{self.label_studio_port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.ls_id = 0

    @property
    def log(self) -> str:
        """Everything that was printed so far."""
        return (self.home / "demo-output.log").read_text(errors="replace")

    def start(self) -> float:
        """Start and wait until it says that it is ready; return the seconds that took."""
        self.home.mkdir(parents=True, exist_ok=True)
        started, before = time.monotonic(), self.log.count("Ready after") if self.home_has_log() else 0
        with open(self.home / "demo-output.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "maskloop_backend", "demo"],
                env=self.env,
                cwd=self.home,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(
            "the demo to be ready", lambda: self.log.count("Ready after") > before, READY_SECONDS, self.check_alive
        )
        with self.pool.read() as session:
            self.ls_id = session.scalars(select(Project.ls_id)).one()
        return time.monotonic() - started

    def home_has_log(self) -> bool:
        """Whether this demo was started before."""
        return (self.home / "demo-output.log").exists()

    def check_alive(self) -> None:
        """Raise RuntimeError with the end of the log when the supervisor has ended."""
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"the demo has ended; its last words:\n{self.log[-3000:]}")

    def stop(self) -> float:
        """Press Ctrl-C; return the seconds until all processes had ended."""
        if self.process is None or self.process.poll() is not None:
            return 0.0
        children = psutil.Process(self.process.pid).children(recursive=True)
        started = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        psutil.wait_procs(children, timeout=10)
        return time.monotonic() - started

    @cached_property
    def pool(self) -> Pool:
        """The demo's pool."""
        return Pool.open(self.settings)

    def project(self) -> Project:
        """The project's row as it is now."""
        with self.pool.read() as session:
            return session.scalars(select(Project).where(Project.ls_id == self.ls_id)).one()

    def client(self, token: str | None = None) -> LabelStudio:
        """A client of the demo's Label Studio, as its user or another."""
        return LabelStudio(self.url, token or load_account(self.home / "demo").token)

    def truth(self, name: str) -> dict[str, Mask]:
        """The true masks of a slice."""
        folder = self.home / "demo" / "truth"
        return {path.name: decode_mask((path / name).read_bytes()) for path in sorted(folder.iterdir())}

    def answer(self, client: LabelStudio, ls_task: int, *, parent: int | None = None) -> Annotation:
        """Submit a task as a perfect annotator would."""
        regions = self.regions(client, ls_task)
        return client.create_annotation(ls_task, regions, lead_time=5.0, parent_prediction=parent)

    def regions(self, client: LabelStudio, ls_task: int) -> list[dict[str, Any]]:
        """The true masks of a task as an annotation's result, one region per label."""
        name = str(client.task_data(self.ls_id, [ls_task])[ls_task]["name"])
        interface = read_interface(client.project(self.ls_id).label_config)
        return to_regions(self.truth(name), controls=interface.controls, region_prefix=name)

    def new_user(self, email: str) -> LabelStudio:
        """A client of a new annotator, who comes by the invite link."""
        account = load_account(self.home / "demo")
        server = LabelStudioServer(self.url, self.home, "", {}, process=None, token=account.token)  # type: ignore[arg-type]
        return self.client(server.new_user(email))

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run `maskloop ...` for this demo."""
        command = [sys.executable, "-m", "maskloop_backend", *words]
        return subprocess.run(command, env=self.env, cwd=self.home, capture_output=True, text=True, check=False)

    def ranking(self) -> list[Ranked]:
        """The pool's unlabelled tasks under the champion, the most uncertain first."""
        with self.pool.read() as session:
            return ranking(session, self.project().id, self.version())

    def task(self, ls_task: int) -> Task:
        """The pool's row of a task."""
        with self.pool.read() as session:
            return session.scalars(select(Task).where(Task.ls_id == ls_task)).one()

    def predicted(self, ls_task: int) -> dict[str, Mask]:
        """Label -> the mask that the version to serve draws of a task, asked what it is asked now."""
        task, version = self.task(ls_task), self.version()
        with self.pool.read() as session:
            found = prediction_for(session, version, str(task.image_digest), task.prompt_digest)
            if found is None:
                raise LookupError(f"task {ls_task} is not drawn by {version} yet")
            scores = scores_of(session, [found.id])[found.id]
        return {score.label: decode_mask(self.pool.store.get("masks", score.mask_digest)) for score in scores}

    def version(self) -> str:
        """The prediction version that should be served."""
        with self.pool.read() as session:
            return current_version(session, self.project().id) or ""

    def rounds(self) -> list[Round]:
        """All rounds, oldest first."""
        with self.pool.read() as session:
            return list(session.scalars(select(Round).order_by(Round.id)))

    def unsettled(self) -> list[str]:
        """What is not as it should be in the end; empty when the loop has come to rest."""
        client, version = self.client(), self.version()
        with self.pool.read() as session:
            broken = set(session.scalars(select(Task.ls_id).where(Task.state == "failed")))
        found = [f"round {row.id} is {row.state}" for row in self.rounds() if row.ended_at is None]
        served = client.project(self.ls_id).model_version
        if served != version:
            found.append(f"{served} is served instead of {version}")
        predictions: dict[int, list[float | None]] = {}
        pairs: list[tuple[int, str]] = []
        for row in client.predictions_index(self.ls_id):
            pairs.append((row.task, row.version))
            if row.version == version:
                predictions.setdefault(row.task, []).append(row.score)
        found += [f"task and version {pair} have a double" for pair in set(pairs) if pairs.count(pair) > 1]
        tasks = client.changed_tasks(self.ls_id, None).tasks
        with self.pool.read() as session:
            labels = select(Label).join(Task, Task.id == Label.task_id).where(Label.current, Task.deleted_at.is_(None))
            known = {
                (label.ls_annotation_id, label.ls_updated_at, label.cancelled) for label in session.scalars(labels)
            }
        heads = {(head.id, head.updated_at, head.cancelled) for task in tasks for head in task.annotations}
        found += [f"annotation {number} is not in the pool" for number, _, _ in heads - known]
        found += [f"annotation {number} is in the pool only" for number, _, _ in known - heads]
        for task in tasks:
            scores = predictions.get(task.id, [])
            unlabelled = task.id not in broken and all(head.cancelled for head in task.annotations)
            if unlabelled and (len(scores) != 1 or scores[0] is None):
                found.append(f"task {task.id} has scores {scores} of {version}")
        return found

    def settle(self, seconds: float = 240.0) -> float:
        """Wait until the loop has come to rest; return the seconds. TimeoutError names what has not."""
        started = time.monotonic()
        while left := self.unsettled():
            if time.monotonic() - started > seconds:
                raise TimeoutError(f"not at rest after {seconds:g} s: {'; '.join(left[:5])}")
            time.sleep(1.0)
        return time.monotonic() - started

    def labels(self, ls_task: int) -> list[Label]:
        """All versions of all annotations of a task in the pool, oldest first."""
        with self.pool.read() as session:
            statement = select(Label).join(Task, Task.id == Label.task_id).where(Task.ls_id == ls_task)
            return list(session.scalars(statement.order_by(Label.id)))

    def live(self, ls_task: int) -> list[Label]:
        """The newest versions of a task's annotations that exist: other tests may have deleted some."""
        return [label for label in self.labels(ls_task) if label.current]

    def find_processes(self, words: str) -> list[psutil.Process]:
        """Living processes of this demo whose command line has these words."""
        if self.process is None:
            return []
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [p for p in found if p.status() != psutil.STATUS_ZOMBIE and words in " ".join(p.cmdline())]


def wait_for(
    what: str, check: Callable[[], object], seconds: float, meanwhile: Callable[[], None] = lambda: None
) -> float:
    """Wait until `check` is true; return the seconds. TimeoutError naming `what` after `seconds`."""
    started = time.monotonic()
    while not check():
        meanwhile()
        if time.monotonic() - started > seconds:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.2)
    return time.monotonic() - started


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def make_demo(home: Path, **settings: str) -> Demo:
    """A demo that is not started yet; the test is skipped where there is no Label Studio."""
    program = find_program()
    if program is None:
        pytest.skip("no Label Studio: run `make test-slow`, or set MASKLOOP_TEST_LABEL_STUDIO")
    return Demo(home, program, **settings)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One running demo for the session; a test leaves it running and healthy."""
    running = make_demo(tmp_path_factory.mktemp("demo") / "home")
    try:
        seconds = running.start()
        print(f"first start: ready after {seconds:.0f} s; account {json.dumps(running.url)}")
        yield running
    finally:
        running.stop()
