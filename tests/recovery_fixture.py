"""A whole installation to be hurt: `maskloop up` with a real Label Studio, which it reaches through a chaos proxy,
as Label Studio's webhooks reach it, and an annotator who never stops."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path

import httpx
import psutil
import pytest
from chaos_proxy import ChaosProxy, chaos_proxy
from demo_fixture import Demo, wait_for
from labelstudio_fixture import LabelStudioServer, find_program, start_label_studio
from sqlalchemy import select

from maskloop_backend.demo.folder import DemoContent, brain_content
from maskloop_backend.labelstudio.client import LabelStudio, LabelStudioError
from maskloop_backend.labelstudio.config import read_interface
from maskloop_backend.labelstudio.template import write_config
from maskloop_backend.masks.regions import to_regions
from maskloop_learner.pool.masks import Mask, decode_mask
from maskloop_learner.pool.queries import usable_labels
from maskloop_learner.pool.schema import Project, utcnow
from maskloop_learner.settings import Settings
from maskloop_queue.triggers import active_round, due_cause, request_training

LEASE = 4
SETTINGS = {
    "MASKLOOP_TRAIN_STEPS": "30",
    "MASKLOOP_CHECKPOINT_STEPS": "5",
    "MASKLOOP_SYNC_INTERVAL": "4",
    "MASKLOOP_FULL_CHECK_INTERVAL": "8",
    "MASKLOOP_WORKER_LEASE": str(LEASE),
    "MASKLOOP_HANG_TIMEOUT": "60",
    "MASKLOOP_SAMPLES": "4",
    "MASKLOOP_CALIBRATION_IMAGES": "0",
    "MASKLOOP_TRIGGER_LABELS": "4",
    "MASKLOOP_TRIGGER_QUIET": "1",
    "MASKLOOP_GATE_ALLOW_FEW": "1",
    "MASKLOOP_GATE_CALIBRATION_MARGIN": "1",
    "MASKLOOP_MIN_FREE_MB": "20",
    "MASKLOOP_KEEP_MODELS": "10",
    "MASKLOOP_GPU_THREADS": "1",
    "MASKLOOP_TRAINING_THREADS": "1",
}
"""So that a whole cycle takes seconds."""
IMAGES, SEEDS = 20, 6
MEGABYTES = 400
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


class Loop(Demo):
    """The installation, its Label Studio and what lies between."""

    def __init__(self, home: Path, program: str, content: DemoContent, *, seed: int, **settings: str) -> None:
        super().__init__(home, program, **{**SETTINGS, **settings})
        self.content = content
        self.names = (*content.seeds[:SEEDS], *(n for n in content.names if n not in content.seeds))[:IMAGES]
        self.studio: LabelStudioServer | None = None
        self.to_studio: ChaosProxy
        self.to_web: ChaosProxy
        self._stack = ExitStack()
        self._seed = seed

    def boot(self, studio: LabelStudioServer) -> None:
        """Fill Label Studio, start everything and wait until it is at rest."""
        self.studio = studio
        self.to_studio = self._stack.enter_context(chaos_proxy(lambda: studio.url, seed=self._seed))
        web = f"http://127.0.0.1:{self.port}"
        self.to_web = self._stack.enter_context(chaos_proxy(lambda: web, seed=self._seed + 1))
        self.env["MASKLOOP_PUBLIC_URL"] = self.to_web.url
        with self.client() as client:
            config = write_config(list(self.content.prompts), mode="brush", prompt=True)
            self.ls_id = client.create_project("recovery", config).id
            files = [(name, (self.content.images / name).read_bytes()) for name in self.names]
            addresses = client.upload_files(self.ls_id, files)
            rows = [{"data": {"image": a, "name": n}} for n, a in zip(self.names, addresses, strict=True)]
            tasks = client.import_tasks(self.ls_id, rows)
            for task in tasks[:SEEDS]:
                self.answer(client, task)
        self.start()
        prompts = [f"--prompt={label}={text}" for label, text in self.content.prompts.items()]
        words = ("--url", self.to_studio.url, "--project", str(self.ls_id), "--token", studio.token, *prompts)
        done = self.command("connect", *words)
        if done.returncode != 0:
            raise RuntimeError(f"connect failed: {done.stdout}{done.stderr}")
        wait_for("the first labels", lambda: self.labels_in_pool() >= SEEDS, 60.0, self.check_alive)
        self.train()
        wait_for("the first model", self.version, 180.0, self.check_alive)
        self.settle()

    def start(self, **environment: str) -> float:
        """`maskloop up`; returns the seconds until the web process answers."""
        self.home.mkdir(parents=True, exist_ok=True)
        with open(self.home.parent / "output.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "maskloop_backend", "up"],
                env={**self.env, **environment},
                cwd=self.home.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return wait_for("the web process", self.answers, 90.0, self.check_alive)

    @property
    def log(self) -> str:
        """Everything that was printed so far."""
        return (self.home.parent / "output.log").read_text(errors="replace")

    def answers(self) -> bool:
        """Whether the web process is up."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """End all."""
        self.stop()
        self._stack.close()

    def client(self, token: str | None = None) -> LabelStudio:
        """A client that no proxy disturbs."""
        assert self.studio is not None
        return LabelStudio(self.studio.url, token or self.studio.token)

    def truth(self, name: str) -> dict[str, Mask]:
        """The true masks of a slice."""
        root = self.content.images.parent / "truth"
        return {label: decode_mask((root / label / name).read_bytes()) for label in self.content.prompts}

    def labels_in_pool(self) -> int:
        """Labels that can be learnt from."""
        with self.pool.read() as session:
            found = session.scalar(select(Project.id).where(Project.ls_id == self.ls_id))
            return len(usable_labels(session, found)) if found else 0

    def train(self) -> None:
        """Ask for a training."""
        request_training(self.pool, self.project().id, cause="test")

    def unsettled(self) -> list[str]:
        """As the demo's; a training that was asked for, or that labels make due, is not rest either."""
        with self.pool.read() as session:
            project = session.scalars(select(Project).where(Project.ls_id == self.ls_id)).one()
            cause = due_cause(session, project, self.asked, now=utcnow())
        return [*([f"a training is due: {cause}"] if cause else []), *super().unsettled()]

    @cached_property
    def asked(self) -> Settings:
        """The settings of the installation's processes."""
        values = {k.removeprefix("MASKLOOP_").lower(): v for k, v in self.env.items() if k.startswith("MASKLOOP_")}
        return Settings.model_validate(values)

    def training(self) -> bool:
        """Whether a round is open."""
        with self.pool.read() as session:
            return active_round(session, self.project().id) is not None

    def service(self, name: str) -> list[psutil.Process]:
        """The processes of a service: web, sync, gpu, training, horse or valkey."""
        assert self.process is not None
        words = {"web": "maskloop_backend web", "sync": "maskloop_backend sync", "valkey": "valkey-server"}
        if name == "horse":
            return [child for worker in self.service("training") for child in worker.children()]
        text = words.get(name, f"worker {name}")
        own = psutil.Process(self.process.pid).children()
        return [p for p in own if p.status() != psutil.STATUS_ZOMBIE and text in " ".join(p.cmdline())]

    def processes(self) -> list[psutil.Process]:
        """Every living process of this installation, wherever it hangs; commands that a test runs are not among
        them."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = process.environ().get("MASKLOOP_HOME") == str(self.home)
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found


class Annotator(threading.Thread):
    """Creates, edits, deletes and skips annotations at random, and remembers what Label Studio said yes to."""

    def __init__(self, loop: Loop, *, seed: int, pause: float) -> None:
        super().__init__(name="annotator", daemon=True)
        self.loop, self.pause = loop, pause
        self.saved: dict[int, datetime] = {}
        """Annotation -> the `updated_at` that was answered."""
        self.removed: set[int] = set()
        self.acts = 0
        self.refused = 0
        self._random = random.Random(seed)
        self._done = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Annotate until `finish`."""
        try:
            with self.loop.client() as client:
                while not self._done.wait(self.pause * (0.5 + self._random.random())):
                    try:
                        self._act(client)
                        self.acts += 1
                    except LabelStudioError:
                        self.refused += 1  # it is away: a person would try again
        except BaseException as error:
            self.error = error
            raise

    def finish(self) -> None:
        """Stop, and raise what went wrong."""
        self._done.set()
        self.join(60)
        if self.error is not None:
            raise RuntimeError("the annotator failed") from self.error

    def _act(self, client: LabelStudio) -> None:
        tasks = client.changed_tasks(self.loop.ls_id, None).tasks
        free = [task.id for task in tasks if not task.annotations]
        drawn = [head for task in tasks for head in task.annotations if not head.cancelled]
        if len(free) > 6 or (len(free) > 3 and self._random.random() < 0.5):
            made = self.loop.answer(client, self._random.choice(free))
            self.saved[made.id] = made.updated_at
        elif len(drawn) > SEEDS + 2 and self._random.random() < 0.6:
            gone = self._random.choice(drawn).id
            self.removed.add(gone)  # before the call: it may be done though its answer is lost
            client.delete_annotation(gone)
        elif drawn:
            row = client.annotation(self._random.choice(drawn).id)
            if row is not None:
                changed = client.update_annotation(row.id, result=self._regions(client, row.task))
                self.saved[changed.id] = changed.updated_at

    def _regions(self, client: LabelStudio, task: int) -> list[dict[str, object]]:
        name = str(client.task_data(self.loop.ls_id, [task])[task]["name"])
        masks = self.loop.truth(name)
        if self._random.random() < 0.5:
            # Another look at the same image: a part is left out.
            label = self._random.choice(sorted(masks))
            masks[label] = masks[label].copy()
            masks[label][: self._random.randrange(40, 90)] = False
        interface = read_interface(client.project(self.loop.ls_id).label_config)
        return to_regions(masks, controls=interface.controls, region_prefix=name)


@contextmanager
def annotating(loop: Loop, *, seed: int, pause: float = 1.5) -> Iterator[Annotator]:
    """Somebody annotates while the block runs."""
    annotator = Annotator(loop, seed=seed, pause=pause)
    annotator.start()
    try:
        yield annotator
    finally:
        annotator.finish()


def small_disk(folder: Path, megabytes: int) -> bool:
    """Mount a file system of so many megabytes at `folder`; False where that is not permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(folder)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """One installation on a small disk of its own; a test leaves it running and at rest."""
    program = find_program()
    if program is None:
        pytest.skip("no Label Studio: run `make test-slow`, or set MASKLOOP_TEST_LABEL_STUDIO")
    root = Path(tempfile.mkdtemp(prefix="maskloop-recovery-"))
    home = root / "home"
    mounted = small_disk(home, MEGABYTES)
    studio = None
    running = Loop(home, program, brain_content(root / "content"), seed=int(os.environ.get("MASKLOOP_TEST_SEED", "1")))
    try:
        studio = start_label_studio(root / "studio", program=program)
        running.boot(studio)
        yield running
    except BaseException:
        print(running.log[-6000:] if (root / "output.log").exists() else "")
        raise
    finally:
        running.close()
        if studio is not None:
            studio.stop()
        if mounted:
            subprocess.run(["umount", "-l", str(home)], check=False)
        shutil.rmtree(root, ignore_errors=True)


def table(rows: list[Mapping[str, object]]) -> str:
    """Rows as aligned text."""
    if not rows:
        return ""
    names = list(rows[0])
    cells = [names, *([str(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells)
