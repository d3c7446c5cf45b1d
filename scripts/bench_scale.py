"""Ten thousand tasks in a real Label Studio on SQLite: seconds per 1,000 tasks of the full sync, of scoring and pushing
with `nano`, and of the switch to the new version; memory of every process on the way.

Starts a Label Studio and `maskloop up` of its own in a temporary folder. Every image is a demo slice with noise of its
own. The machine should be idle.

    python scripts/bench_scale.py --label-studio .venv-label-studio/bin/label-studio --tasks 10000
"""

import argparse
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image
from sqlalchemy import func, select

from maskloop_backend.demo.folder import DemoContent, brain_content
from maskloop_backend.demo.host import label_studio_command, label_studio_environment, load_account
from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.labelstudio.config import read_interface
from maskloop_backend.labelstudio.template import write_config
from maskloop_backend.masks.regions import to_regions
from maskloop_learner.pool.masks import decode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import current_version
from maskloop_learner.pool.schema import Prediction, Project, Push, Task
from maskloop_learner.settings import Settings

LABELLED = 8
SERVICES = {"web": "maskloop_backend web", "sync": "maskloop_backend sync", "gpu": "worker gpu"}


class Installation:
    """Label Studio and `maskloop up`, each in a process of its own."""

    def __init__(self, folder: Path, program: Path, samples: int) -> None:
        ports = free_ports(2)
        self.settings = Settings(
            home=folder / "home", port=ports[0], label_studio_port=ports[1], samples=samples, train_steps=60
        )
        self.folder, self.program = folder, program
        self.account = load_account(folder / "account")
        self.url = f"http://127.0.0.1:{ports[1]}"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("MASKLOOP_")} | {
            "MASKLOOP_HOME": str(self.settings.home),
            "MASKLOOP_PORT": str(ports[0]),
            "MASKLOOP_SAMPLES": str(samples),
            "MASKLOOP_TRAIN_STEPS": "60",
            "MASKLOOP_TRIGGER_LABELS": "0",
            "MASKLOOP_CALIBRATION_IMAGES": "0",
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self.pool = Pool.open(self.settings)

    def start_label_studio(self) -> None:
        """Start it and wait for it."""
        environment = label_studio_environment(self.settings, self.folder / "label-studio", self.account)
        self._start(label_studio_command(self.program, self.settings), {**os.environ, **environment})
        wait_for(lambda: answers(self.url), "Label Studio")

    def start_up(self, **more: str) -> subprocess.Popen[bytes]:
        """`maskloop up` with some settings changed."""
        process = self._start([sys.executable, "-m", "maskloop_backend", "up"], {**self.env, **more})
        wait_for(lambda: answers(f"http://127.0.0.1:{self.settings.port}"), "the web process")
        return process

    def _start(self, command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        with open(self.folder / "output.log", "ab") as log:
            process = subprocess.Popen(
                command, env=env, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """As Ctrl-C does."""
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        self.processes.remove(process)

    def memory(self) -> dict[str, float]:
        """Resident megabytes of each process."""
        found: dict[str, float] = {}
        for process in psutil.process_iter():
            try:
                if process.environ().get("MASKLOOP_HOME") != str(self.settings.home):
                    continue
                line = " ".join(process.cmdline())
                for name, words in SERVICES.items():
                    if words in line:
                        found[name] = process.memory_info().rss / 1e6
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def count(self, statement: Any) -> int:
        """One number out of the pool."""
        with self.pool.read() as session:
            return int(session.scalar(statement) or 0)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def answers(url: str) -> bool:
    """Whether a server is up."""
    try:
        return httpx.get(url + "/health", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(check: Callable[[], object], what: str, seconds: float = 600.0) -> float:
    """Wait until it is so; the seconds. TimeoutError naming it."""
    started = time.monotonic()
    while not check():
        if time.monotonic() - started > seconds:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.25)
    return time.monotonic() - started


def noisy(content: DemoContent, number: int) -> bytes:
    """A demo slice with noise of its own, as PNG."""
    name = content.names[number % len(content.names)]
    grey = np.asarray(Image.open(content.images / name).convert("L"), dtype=np.int16)
    noise = np.random.default_rng(number).integers(-6, 7, grey.shape, dtype=np.int16)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(grey + noise, 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def fill(client: LabelStudio, content: DemoContent, ls_id: int, first: int, count: int) -> None:
    """Add tasks to Label Studio."""
    for start in range(first, first + count, 500):
        numbers = range(start, min(start + 500, first + count))
        files = [(f"slice-{number}.png", noisy(content, number)) for number in numbers]
        addresses = client.upload_files(ls_id, files)
        names = [name for name, _ in files]
        client.import_tasks(ls_id, [{"data": {"image": a, "name": n}} for a, n in zip(addresses, names, strict=True)])


def label(client: LabelStudio, content: DemoContent, ls_id: int, config: str) -> None:
    """The true masks on the demo's labelled slices."""
    files = [(name, (content.images / name).read_bytes()) for name in content.seeds[:LABELLED]]
    addresses = client.upload_files(ls_id, files)
    controls, rows = read_interface(config).controls, []
    for (name, _), address in zip(files, addresses, strict=True):
        masks = {label: decode_mask(found[name].read_bytes()) for label, found in content.masks.items()}
        result = to_regions(masks, controls=controls, region_prefix=name)
        rows.append({"data": {"image": address, "name": name}, "annotations": [{"result": result}]})
    client.import_tasks(ls_id, rows)


def follow(what: str, count: Callable[[], int], memory: Callable[[], dict[str, float]], total: int) -> None:
    """Print the seconds of each 1,000 and the memory then, until `total` is there."""
    started = time.monotonic()
    done, before = 0, 0.0
    while done < total:
        time.sleep(0.5)
        found = count()
        while done < total and found >= min(done + 1000, total):
            step = min(1000, total - done)
            done += step
            now = time.monotonic() - started
            resident = "  ".join(f"{name} {value:.0f} MB" for name, value in memory().items())
            print(
                f"{what:10} {done:6} of {total}: {(now - before) * 1000 / step:7.1f} s per 1,000   {resident}",
                flush=True,
            )
            before = now
        if time.monotonic() - started > 7200:
            raise TimeoutError(f"{what}: {found} of {total} after two hours")


def run(installation: Installation, tasks: int) -> None:
    """The phases, one after the other."""
    content = brain_content(installation.folder / "content")
    installation.start_label_studio()
    first = installation.start_up()
    with LabelStudio(installation.url, installation.account.token) as client:
        config = write_config(list(content.prompts), mode="brush", prompt=True)
        ls_id = client.create_project("ten thousand", config).id
        label(client, content, ls_id, config)
        words = ["connect", "--url", installation.url, "--project", str(ls_id), "--token", installation.account.token]
        words += [f"--prompt={name}={text}" for name, text in content.prompts.items()]
        maskloop = [sys.executable, "-m", "maskloop_backend"]
        subprocess.run([*maskloop, *words], env=installation.env, check=True, stdout=subprocess.DEVNULL)
        of_project = select(func.count(Task.id)).where(Task.state == "ready")
        wait_for(lambda: installation.count(of_project) >= LABELLED, "the labelled images")
        subprocess.run([*maskloop, "train"], env=installation.env, check=True, stdout=subprocess.DEVNULL)
        installation.stop(first)

        started = time.monotonic()
        fill(client, content, ls_id, 0, tasks)
        print(f"Label Studio took {tasks} images in {time.monotonic() - started:.0f} s (its own work)", flush=True)
        second = installation.start_up(MASKLOOP_GPU_WORKERS="0", MASKLOOP_TRAINING_WORKERS="0")
        follow("full sync", lambda: installation.count(of_project) - LABELLED, installation.memory, tasks)
        installation.stop(second)

        with installation.pool.read() as session:
            project_id = session.scalars(select(Project.id)).one()
            version = str(current_version(session, project_id))
        scored = select(func.count(Prediction.id)).where(Prediction.version_id == version)
        pushed = select(func.count(Push.ls_prediction_id)).where(Push.version_id == version, Push.gone_at.is_(None))
        third = installation.start_up()
        follow("scored", lambda: installation.count(scored) - LABELLED, installation.memory, tasks)
        late = wait_for(lambda: installation.count(pushed) >= tasks, "the last push", 3600.0)
        print(f"pushed     {installation.count(pushed)}: {late:.1f} s after the last was scored", flush=True)
        late = wait_for(lambda: client.project(ls_id).model_version == version, "the switch", 600.0)
        print(f"switched   {late:.1f} s after the last push", flush=True)
        started = time.monotonic()
        client.prediction_counts(ls_id)
        print(f"all prediction counts read in {time.monotonic() - started:.1f} s", flush=True)
        installation.stop(third)


def main() -> None:
    """Read the command line, run, clean up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label-studio", type=Path, required=True, help="the label-studio program")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=4)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="maskloop-scale-"))
    installation = Installation(folder, options.label_studio.absolute(), options.samples)
    try:
        run(installation, options.tasks)
    except BaseException:
        print((folder / "output.log").read_text(errors="replace")[-3000:], file=sys.stderr)
        raise
    finally:
        for process in installation.processes[::-1]:
            installation.stop(process)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
