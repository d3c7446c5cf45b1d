"""How long a person waits for a prediction while a training runs, against a machine without one, and what that costs.

    python scripts/bench_politeness.py --requests 60
    python scripts/bench_politeness.py --requests 60 --share 1 --backlog

A home of its own with Valkey, a GPU worker and a training worker, as `maskloop up` starts them. Each request asks an
image something that it was never asked, as a typed prompt does, one at a time. Blocks with the training stopped
(SIGSTOP) and running take turns, so that both see the same machine. `--share 1` is a training that gives way to nobody;
`--backlog` keeps images waiting to be drawn all along. The last block asks without a pause.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil
from sqlalchemy import func, select

ROOT = Path(__file__).resolve().parents[1]
FLOORS = [str(ROOT / part) for part in ("learner", "queue", "backend")]
sys.path[:0] = FLOORS

import numpy as np  # noqa: E402

from maskloop_backend.labelstudio.controls import Control, Interface  # noqa: E402
from maskloop_learner.model.backbones import find_backbone  # noqa: E402
from maskloop_learner.model.checkpoint import save_weights  # noqa: E402
from maskloop_learner.model.start import build_start  # noqa: E402
from maskloop_learner.pool.masks import encode_mask  # noqa: E402
from maskloop_learner.pool.pool import Pool  # noqa: E402
from maskloop_learner.pool.schema import (  # noqa: E402
    Image,
    Label,
    Model,
    Prediction,
    Project,
    PromptSet,
    Round,
    Task,
    utcnow,
)
from maskloop_learner.settings import Settings  # noqa: E402
from maskloop_learner.train.registry import ensure_version, set_champion  # noqa: E402
from maskloop_queue.connection import connect  # noqa: E402
from maskloop_queue.queues import enqueue_round, enqueue_score  # noqa: E402
from maskloop_queue.triggers import request_training, start_due_round  # noqa: E402
from maskloop_queue.valkey import is_ready, valkey_command  # noqa: E402

LABEL, SIDE = "Spot", 256
PATIENCE = 180.0
POLL = 0.01


def draw(number: int) -> tuple[bytes, bytes]:
    """An image of noise with a bright disc, and the disc's mask, both as PNG."""
    from io import BytesIO

    from PIL import Image as Pillow

    chance = np.random.default_rng(number)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    middle, radius = chance.integers(64, 192, 2), chance.integers(16, 48)
    mask = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < radius**2
    grey = (chance.normal(90, 25, mask.shape) + 70 * mask).clip(0, 255).astype(np.uint8)
    out = BytesIO()
    Pillow.fromarray(grey).convert("RGB").save(out, "PNG")
    return out.getvalue(), encode_mask(mask)


def wait(what: str, check: Callable[[], object]) -> None:
    """Wait until `check` is true."""
    end = time.monotonic() + PATIENCE
    while not check():
        if time.monotonic() > end:
            raise TimeoutError(f"after {PATIENCE:g} s: not {what}")
        time.sleep(0.1)


class Bench:
    """One project, a champion, and the processes around them."""

    def __init__(self, settings: Settings, images: int) -> None:
        self.settings = settings
        settings.home.mkdir(parents=True, exist_ok=True)
        self.pool = Pool.open(settings)
        self.project, self.digests = self._fill(images)
        self.version = self._serve()
        self.words = (f"spot number {number}" for number in itertools.count())
        self.log = open(settings.home / "bench.log", "ab")  # noqa: SIM115 - closed by close()
        self.processes = [self._start(valkey_command(settings.home))]
        wait("Valkey", lambda: is_ready(settings.home))
        self.conn = connect(settings)
        for kind in ("gpu", "training"):
            self.processes.append(self._start([sys.executable, "-m", "maskloop_backend", "worker", kind]))
        self.backlog = 0

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        threads = {"GPU": str(self.settings.gpu_threads), "TRAINING": str(self.settings.training_threads)}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MASKLOOP_", "OMP_"))},
            "PYTHONPATH": os.pathsep.join(FLOORS),
            "MASKLOOP_HOME": str(self.settings.home),
            "MASKLOOP_TRAIN_STEPS": "1000000",
            "MASKLOOP_TRAINING_SHARE": str(self.settings.training_share),
            **{f"MASKLOOP_{name}_THREADS": count for name, count in threads.items()},
        }
        return subprocess.Popen(command, stdout=self.log, stderr=self.log, env=environment, start_new_session=True)

    def _fill(self, images: int) -> tuple[int, list[str]]:
        control = Interface((Control("brush", "tag", "image", "image", (LABEL,)),)).as_json()
        drawn = [draw(number) for number in range(images)]
        digests = [self.pool.store.put("images", image) for image, _ in drawn]
        masks = [self.pool.store.put("masks", mask) for _, mask in drawn]
        with self.pool.write() as session:
            project = Project(ls_url="http://127.0.0.1:1", ls_id=1, control=control, prompts={LABEL: "bright spot"})
            session.add(project)
            session.flush()
            for number, (digest, mask) in enumerate(zip(digests, masks, strict=True)):
                size = len(drawn[number][0])
                session.add(Image(digest=digest, width=SIDE, height=SIDE, format="PNG", size=size))
                session.flush()
                task = Task(project_id=project.id, ls_id=number + 1, state="ready", image_digest=digest)
                session.add(task)
                session.flush()
                if number < 16:
                    row = Label(task_id=task.id, ls_annotation_id=number, masks={LABEL: mask}, ls_updated_at=utcnow())
                    session.add(row)
            return project.id, digests

    def _serve(self) -> str:
        backbone = self.settings.backbone
        weights = save_weights(build_start(find_backbone(backbone), seed=0, start="pretrained"), meta={})
        digest = self.pool.store.put("weights", weights)
        with self.pool.write() as session:
            project = session.get_one(Project, self.project)
            model = Model(project_id=project.id, weights_digest=digest, backbone=backbone, labels=[LABEL])
            session.add(model)
            session.flush()
            version = ensure_version(session, project, model, self.settings)
            set_champion(session, project_id=project.id, model_id=model.id, version_id=version, fence=0, by="bench")
            return version

    def train(self) -> None:
        """Have a training run that does not end by itself."""
        request_training(self.pool, self.project, cause="cli")
        opened = start_due_round(self.pool, self.project, self.settings)
        if opened is None:
            raise RuntimeError("no round was opened")
        enqueue_round(self.conn, opened, 1)
        wait("a training at work", lambda: self.steps() > 2)

    def steps(self) -> int:
        """Steps that the training has done."""
        with self.pool.read() as session:
            return int(session.scalars(select(Round)).one().progress.get("step", 0))

    def pause(self, paused: bool) -> None:
        """Stop the training where it is, with its worker, or let it go on."""
        worker = psutil.Process(self.processes[2].pid)
        for process in (worker, *worker.children()):
            process.send_signal(signal.SIGSTOP if paused else signal.SIGCONT)

    def ask(self, number: int) -> float:
        """Seconds until an image is predicted with a prompt that is new."""
        words = next(self.words)
        prompts = f"{number:04x}{os.getpid():08x}"
        with self.pool.write() as session:
            session.add(PromptSet(digest=prompts, prompts={LABEL: {"text": words, "source": "annotator"}}))
        digest = self.digests[number % len(self.digests)]
        started = time.perf_counter()
        enqueue_score(self.conn, self.version, digest, prompts, deadline=time.time() + 60, front=True)
        statement = select(func.count(Prediction.id)).where(Prediction.prompt_digest == prompts)
        while True:
            with self.pool.read() as session:
                if session.scalar(statement):
                    return time.perf_counter() - started
            if time.perf_counter() - started > PATIENCE:
                raise TimeoutError(f"no prediction within {PATIENCE:g} s: see {self.log.name}")
            time.sleep(POLL)

    def keep_backlog(self) -> None:
        """Have a few images wait that nobody asked for."""
        while self.backlog and self.conn.llen("maskloop:queue:gpu") < 4:
            self.backlog += 1
            prompts = f"b{self.backlog:07x}{os.getpid():08x}"
            with self.pool.write() as session:
                words = {LABEL: {"text": f"spot {self.backlog}", "source": "template"}}
                session.add(PromptSet(digest=prompts, prompts=words))
            enqueue_score(self.conn, self.version, self.digests[self.backlog % len(self.digests)], prompts)

    def close(self) -> None:
        """End all processes."""
        for process in reversed(self.processes):
            if process is self.processes[2]:
                self.pause(False)
            process.kill()
            process.wait(10)
        self.pool.close()
        self.log.close()


def percentile(seconds: list[float], share: float) -> float:
    """The seconds that this share of the requests does not exceed."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure(bench: Bench, options: argparse.Namespace) -> dict[str, object]:
    """Blocks of requests in turn, then a stream without a pause."""
    numbers = itertools.count(1)
    seconds: dict[str, list[float]] = {"quiet": [], "training": []}
    worked, steps = 0.0, 0
    chance = np.random.default_rng(0)
    for _ in range(3):
        bench.ask(next(numbers))
    bench.train()
    for block in range(2 * -(-options.requests // options.block)):
        state = ("quiet", "training")[block % 2]
        bench.pause(state == "quiet")
        time.sleep(2.0)
        started, before = time.monotonic(), bench.steps()
        for _ in range(options.block):
            bench.keep_backlog()
            # At any moment of a training step.
            time.sleep(options.think * (0.5 + chance.random()))
            seconds[state].append(bench.ask(next(numbers)))
        if state == "training":
            worked, steps = worked + time.monotonic() - started, steps + bench.steps() - before
    started, before = time.monotonic(), bench.steps()
    time.sleep(options.stream)
    alone = (bench.steps() - before) / (time.monotonic() - started)
    started, before, streamed = time.monotonic(), bench.steps(), list[float]()
    while time.monotonic() - started < options.stream:
        streamed.append(bench.ask(next(numbers)))
    stream = (bench.steps() - before) / (time.monotonic() - started)
    found: dict[str, object] = {
        state: {"requests": len(each), "p50": percentile(each, 0.5), "p95": percentile(each, 0.95), "max": max(each)}
        for state, each in (*seconds.items(), ("stream", streamed))
    }
    return found | {
        "ratio of p95": percentile(seconds["training"], 0.95) / percentile(seconds["quiet"], 0.95),
        "ratio of p50": percentile(seconds["training"], 0.5) / percentile(seconds["quiet"], 0.5),
        "steps per second": {"nobody asks": alone, "one asks": steps / worked, "one asks without a pause": stream},
        "load": os.getloadavg()[0],
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=60, help="requests with and without the training")
    parser.add_argument("--block", type=int, default=10, help="requests between two changes")
    parser.add_argument("--think", type=float, default=1.0, help="seconds between two requests, on average")
    parser.add_argument("--stream", type=float, default=20.0, help="seconds of requests without a pause")
    parser.add_argument("--share", type=float, default=0.3, help="MASKLOOP_TRAINING_SHARE; 1 gives way to nobody")
    parser.add_argument("--samples", type=int, default=30, help="Monte-Carlo samples of a prediction")
    parser.add_argument("--images", type=int, default=40, help="images in the pool")
    parser.add_argument("--backlog", action="store_true", help="images wait to be drawn all along")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    options = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="politeness-")))
        settings = Settings(home=home, samples=options.samples, training_share=options.share, trigger_quiet=0)
        bench = Bench(settings, options.images)
        stack.callback(bench.close)
        bench.backlog = int(options.backlog)
        found = measure(bench, options)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for name, row in found.items():
        figures = row if isinstance(row, dict) else {"": row}
        print(f"{name:18}" + "  ".join(f"{key} {value:.3g}" for key, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
