"""How long an annotator waits for what a typed prompt draws: with a quiet machine, and while it scores and trains.

    python scripts/bench_prompts_latency.py --home .maskloop --url http://127.0.0.1:9090 --count 20

Texts that were never typed before go to /predict as Label Studio sends them, and through Label Studio itself as its
page sends them. For the busy half trainings are asked for one after the other, and the project's templates changed
whenever all images are drawn. Only moments at which a training runs and images wait count. In the end templates and
typed prompts are as before; the trainings stay. For a demo, not for a project that people work in.
"""

import argparse
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import redis
from sqlalchemy import select

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("learner", "queue", "backend")]

from maskloop_backend.clients import Clients  # noqa: E402
from maskloop_backend.credentials import load_credentials  # noqa: E402
from maskloop_backend.prompting import store_templates  # noqa: E402
from maskloop_backend.sync.work import waiting_tasks  # noqa: E402
from maskloop_learner.pool.pool import Pool  # noqa: E402
from maskloop_learner.pool.prompting import set_prompts  # noqa: E402
from maskloop_learner.pool.queries import current_version  # noqa: E402
from maskloop_learner.pool.schema import Project, Task  # noqa: E402
from maskloop_learner.settings import Settings  # noqa: E402
from maskloop_queue.connection import connect  # noqa: E402
from maskloop_queue.queues import pending_jobs  # noqa: E402
from maskloop_queue.triggers import active_round, request_training  # noqa: E402

WAYS = ("web process", "Label Studio")
SIZES, LIGHTS, PLACES = ("small", "large", "thin", "broad"), ("bright", "dark", "grey"), ("folds", "bands", "islands")
PATIENCE = 120.0
"""Seconds to wait for a busy moment."""


@dataclass
class Waits:
    """Seconds of the requests of one way, and the machine's load at each."""

    name: str
    seconds: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """The seconds that this share of the requests does not exceed."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def as_json(self) -> dict[str, Any]:
        """Figures in seconds."""
        figures = {name: round(self.percentile(share), 2) for name, share in (("median", 0.5), ("p90", 0.9))}
        load = sum(self.loads) / len(self.loads)
        return {"requests": len(self.seconds), **figures, "max": round(max(self.seconds), 2), "load": round(load, 1)}


class Bench:
    """A connected project, and what one does to it."""

    def __init__(self, home: Path, url: str, project: int) -> None:
        self.settings = Settings(home=home)
        self.pool, self.url, self.ls_id = Pool.open(self.settings), url, project
        with self.pool.read() as session:
            self.project = session.scalars(select(Project).where(Project.ls_id == project)).one()
        self.client = Clients(home).get(self.project.ls_url)
        self.backend = self.client.backends(project)[0].id
        self.connection: redis.Redis = connect(self.settings)
        self.headers = {"Authorization": load_credentials(home).header}
        config = self.client.project(project).label_config
        self.sent = {"project": f"{project}.1", "label_config": config}
        self.field = self.project.control["prompt_tags"][0]
        # What was typed at another time must not be answered from the pool.
        stamp = time.strftime("%H%M%S")
        self.texts = (
            f"{' '.join(words)} {stamp}" for words in itertools.cycle(itertools.product(SIZES, LIGHTS, PLACES))
        )

    def ask(self, way: str, task: dict[str, Any]) -> float:
        """Type something new for a task; return the seconds until its masks are there."""
        typed = {"type": "textarea", "from_name": self.field["from_name"], "to_name": self.field["to_name"]}
        context = {"result": [{**typed, "id": "typed", "origin": "manual", "value": {"text": [next(self.texts)]}}]}
        started = time.perf_counter()
        if way == "Label Studio":
            path = f"/api/ml/{self.backend}/interactive-annotating"
            found = self.client.json("POST", path, json={"task": task["id"], "context": context})["data"]
        else:
            body = {"tasks": [task], **self.sent, "params": {"login": None, "password": None, "context": context}}
            answer = httpx.post(f"{self.url}/predict", json=body, headers=self.headers, timeout=120)
            found = answer.raise_for_status().json()["results"][0]
        seconds = time.perf_counter() - started
        if found["model_version"].startswith("maskloop-un"):
            raise RuntimeError(f"task {task['id']} got no masks within {seconds:.1f} s: the web process's log says why")
        return seconds

    def tasks(self) -> list[dict[str, Any]]:
        """The project's unlabelled tasks as Label Studio sends them, with their predictions."""
        with self.pool.read() as session:
            ready = (Task.project_id == self.project.id, Task.state == "ready", Task.deleted_at.is_(None))
            ids = session.scalars(select(Task.ls_id).where(*ready).order_by(Task.ls_id))
            found = [self.client.json("GET", f"/api/tasks/{ls_id}") for ls_id in ids]
        return [task for task in found if not task["annotations"]]

    def busy(self) -> bool:
        """Whether a training runs and images wait to be drawn."""
        with self.pool.read() as session:
            active = active_round(session, self.project.id)
        return active is not None and active.state == "running" and pending_jobs(self.connection)["gpu"]["queued"] > 0

    @contextmanager
    def kept_busy(self) -> Iterator[None]:
        """Let trainings and scoring go on until the block ends."""
        done = threading.Event()
        thread = threading.Thread(target=self._keep, args=(done,))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _keep(self, done: threading.Event) -> None:
        for turn in itertools.count(1):
            while not done.wait(0.3):
                with self.pool.read() as session:
                    active = active_round(session, self.project.id)
                    version = current_version(session, self.project.id)
                    left = waiting_tasks(session, self.project.id, version) if version else 0
                if active is None:
                    request_training(self.pool, self.project.id, cause="cli")
                if left < 3:
                    break
            if done.is_set():
                return
            self.set_templates({label: f"{text}, {turn}" for label, text in self.project.prompts.items()})

    def set_templates(self, templates: dict[str, str]) -> None:
        """Have all images asked by these from now on."""
        with self.pool.write() as session:
            store_templates(session, session.get_one(Project, self.project.id), templates)

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Have templates and typed prompts in the end as they were before."""
        with self.pool.read() as session:
            statement = select(Task).where(Task.project_id == self.project.id)
            before = {task.id: task.typed_prompts for task in session.scalars(statement)}
        try:
            yield
        finally:
            self.set_templates(dict(self.project.prompts))
            with self.pool.write() as session:
                project = session.get_one(Project, self.project.id)
                for task in session.scalars(select(Task).where(Task.id.in_(before))):
                    task.typed_prompts = before[task.id]
                    set_prompts(session, project, task)


def measure(bench: Bench, tasks: list[dict[str, Any]], count: int, *, busy: bool) -> list[Waits]:
    """Ask `count` times each way, in turn; with `busy` only at busy moments."""
    waits = [Waits(way) for way in WAYS]
    for number in range(2 * count):
        end = time.monotonic() + PATIENCE
        while busy and not bench.busy():
            if time.monotonic() > end:
                raise TimeoutError(f"no training with images waiting within {PATIENCE:g} s: is `maskloop up` running?")
            time.sleep(0.05)
        way = waits[number % 2]
        way.seconds.append(bench.ask(way.name, tasks[number % len(tasks)]))
        way.loads.append(os.getloadavg()[0])
        time.sleep(0.3)
    return waits


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".maskloop"), help="home folder")
    parser.add_argument("--url", default="http://127.0.0.1:9090", help="address of the web process")
    parser.add_argument("--project", type=int, default=1, help="Label Studio's id of the project")
    parser.add_argument("--count", type=int, default=20, help="requests each way, quiet and busy")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    options = parser.parse_args()
    bench = Bench(options.home, options.url, options.project)
    tasks = bench.tasks()
    with bench.put_back():
        quiet = measure(bench, tasks, options.count, busy=False)
        with bench.kept_busy():
            busy = measure(bench, tasks, options.count, busy=True)
    report = {state: {way.name: way.as_json() for way in waits} for state, waits in (("quiet", quiet), ("busy", busy))}
    if options.json:
        print(json.dumps(report, indent=2))
        return 0
    for state, ways in report.items():
        for name, row in ways.items():
            print(f"{state:5}  {name:12}  " + "  ".join(f"{key} {value}" for key, value in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
