"""Servers of sample models in processes of their own: ours, and label-studio-ml's where a Python has it.

That Python is the one that runs the tests, or $MASKLOOP_TEST_LABEL_STUDIO_ML.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
FLOORS = [str(ROOT / floor) for floor in ("backend", "learner", "queue")]
OURS, REAL = "maskloop", "label-studio-ml"
BOOT_SECONDS = 60.0
REAL_SCRIPT = """
import sys
from label_studio_ml.api import init_app
import ml_samples
name, port, user, password = sys.argv[1:]
app = init_app(getattr(ml_samples, name), basic_auth_user=user or None, basic_auth_pass=password or None)
app.run(host="127.0.0.1", port=int(port), threaded=True)
"""
OUR_SCRIPT = """
import sys, threading
import uvicorn
from maskloop_backend.ml_base.app import make_app
import ml_samples
threads = []
for pair in sys.argv[1:]:
    name, port = pair.split(":")
    config = uvicorn.Config(make_app(getattr(ml_samples, name)), port=int(port), log_config=None, access_log=False)
    threads.append(threading.Thread(target=uvicorn.Server(config).run))
    threads[-1].start()
for thread in threads:
    thread.join()
"""


@lru_cache(maxsize=1)
def real_python() -> str | None:
    """A Python that has label-studio-ml 2 or newer, or None."""
    python = os.environ.get("MASKLOOP_TEST_LABEL_STUDIO_ML", sys.executable)
    code = "import label_studio_ml.model; from importlib.metadata import version; print(version('label-studio-ml'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, cwd="/")
    return python if done.returncode == 0 and int(done.stdout.split(".")[0]) >= 2 else None


def need_real_python() -> str:
    """A Python that has label-studio-ml 2 or newer; without one the test is skipped."""
    python = real_python()
    if python is None:
        pytest.skip("label-studio-ml 2.x is not installed; see docs/label-studio-ml.md")
    return python


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MLClient:
    """Speaks to one served class."""

    def __init__(self, name: str, port: int, log: Path, auth: tuple[str, str] | None = None) -> None:
        self.name, self.port, self.log, self.auth = name, port, log, auth
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, auth=auth)

    def post(self, path: str, body: Any) -> Any:
        """The JSON of a reply that must be a success."""
        answer = self.client.post(path, json=body)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}\n{self.log.read_text()[-3000:]}"
        return answer.json()

    def report(self) -> Any:
        """What /health says."""
        return self.client.get("/health").raise_for_status().json()

    def wait(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait until it answers."""
        end = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < end and process.poll() is None:
            try:
                self.client.get("/health")
                return
            except httpx.TransportError:
                time.sleep(0.05)  # not listening yet
        raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text()[-3000:]}")


def run(command: list[str], *, home: Path, implementation: str = OURS, **more: str) -> "subprocess.Popen[bytes]":
    """Start a program with the environment of an implementation and `more`; its output goes to home/server.log."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MASKLOOP_", "LABEL_STUDIO_", "PYTHON"))}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    if implementation == OURS:
        environment |= {"MASKLOOP_HOME": str(home), "PYTHONPATH": os.pathsep.join([*FLOORS, str(TESTS)])}
    else:
        environment |= {"ML_BASE": "label_studio_ml", "MODEL_DIR": str(home), "PYTHONPATH": str(TESTS)}
    home.mkdir(parents=True, exist_ok=True)
    with (home / "server.log").open("ab") as log:
        return subprocess.Popen(
            command, env=environment | more, cwd=home, stdout=log, stderr=log, start_new_session=True
        )


def end(process: "subprocess.Popen[bytes]") -> int:
    """SIGTERM, and SIGKILL after ten seconds, to a program and its children; returns the exit code."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
    return int(process.returncode)


def serve_many(home: Path, names: list[str]) -> tuple["subprocess.Popen[bytes]", dict[str, MLClient]]:
    """Several samples on our server, in one process: a port each."""
    clients = {name: MLClient(name, free_port(), home / "server.log") for name in names}
    pairs = [f"{name}:{client.port}" for name, client in clients.items()]
    process = run([sys.executable, "-c", OUR_SCRIPT, *pairs], home=home)
    for client in clients.values():
        client.wait(process)
    return process, clients


class MLServer(MLClient):
    """One class in a process of its own, as a user starts it."""

    def __init__(
        self,
        home: Path,
        name: str,
        implementation: str = OURS,
        *,
        auth: tuple[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        super().__init__(name, free_port(), home / "server.log", auth)
        self.home, self.implementation = home, implementation
        self.arguments, self.environment = arguments, environment or {}
        self.start()

    def start(self) -> None:
        """Start it (again) on the same port and state, and wait until it answers."""
        self.process = run(self._command(), home=self.home, implementation=self.implementation, **self.environment)
        try:
            self.wait(self.process)
        except RuntimeError:
            self.stop()
            raise

    def _command(self) -> list[str]:
        user, password = self.auth or ("", "")
        if self.implementation == REAL:
            return [need_real_python(), "-c", REAL_SCRIPT, self.name, str(self.port), user, password]
        target = self.name if ":" in self.name else f"ml_samples:{self.name}"
        command = [sys.executable, "-m", "maskloop_backend", "serve", target, "--port", str(self.port)]
        given = ["--basic-auth-user", user, "--basic-auth-pass", password] if self.auth else []
        return [*command, *given, *self.arguments]

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM, and SIGKILL after ten seconds; returns the exit code."""
        return end(self.process)
