"""A real embedded Valkey in a home folder of its own, as a pytest plugin."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from maskloop_learner.settings import Settings
from maskloop_queue import valkey as embedded
from maskloop_queue.connection import connect

ROOT = Path(__file__).resolve().parent.parent
FLOORS = os.pathsep.join(str(ROOT / floor) for floor in ("backend", "learner", "queue"))
"""PYTHONPATH of children, so that tests need no installation."""


def wait_until(what: str, check: Callable[[], object], timeout: float = 10.0, every: float = 0.05) -> float:
    """Wait until `check` is true and return the seconds that took; fail the test naming `what` otherwise."""
    start = time.monotonic()
    while not check():
        if time.monotonic() - start > timeout:
            pytest.fail(f"after {timeout:g} s: not {what}")
        time.sleep(every)
    return time.monotonic() - start


class Valkey:
    """The Valkey of `settings.home`, which tests start, stop and kill."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.log = home / "valkey.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> redis.Redis:
        """Start it, wait until it answers, and return a client."""
        self.settings.home.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                embedded.valkey_command(self.settings.home),
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": FLOORS},
                start_new_session=True,
            )
        process = self.process
        wait_until(
            f"answering; it said: {self.log.read_text()[-2000:]}",
            lambda: process.poll() is not None or embedded.is_ready(self.settings.home),
        )
        assert process.poll() is None, self.log.read_text()
        return self.connect()

    def connect(self, patience: float = 2.0) -> redis.Redis:
        """A client, as the product makes it."""
        return connect(self.settings, patience=patience)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it with a signal and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(timeout=10)
        self.process = None


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A running embedded Valkey with an empty data folder."""
    server = Valkey(tmp_path / "home")
    server.start()
    yield server
    server.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def _valkey_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("valkey") / "home")
    yield server
    server.stop(signal.SIGKILL)


@pytest.fixture
def shared_valkey(_valkey_of_session: Valkey) -> Valkey:
    """A running, empty Valkey: quicker than `valkey`, for tests that do not mind whose home it is in."""
    server = _valkey_of_session
    if server.process is None or server.process.poll() is not None:
        server.start()
    server.connect().flushall()
    return server
