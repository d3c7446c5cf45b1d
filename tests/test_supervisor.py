"""A real supervisor over real processes: order, restarts, hanging, and ends of every kind without leftovers."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from rq import Queue
from valkey_fixture import FLOORS, ROOT, Valkey, wait_until
from worker_fixture import Workers
from worker_script import EXTRA

from maskloop_backend.supervisor import Service, Supervisor
from maskloop_queue.jobs import JOBS
from maskloop_queue.processes import GRACE
from maskloop_queue.queues import pending_jobs, training_queue


class Up:
    """A supervisor process and what it printed."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.printed = folder / "printed"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True, **services: dict[str, Any]) -> subprocess.Popen[bytes]:
        """Start it with these services, in this order, and wait until all are ready."""
        with open(self.printed, "ab") as out:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "supervisor_script.py"), str(self.home), json.dumps(services)],
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={
                    **os.environ,
                    "PYTHONPATH": FLOORS,
                    "MASKLOOP_HOME": str(self.home),
                    "MASKLOOP_WORKER_LEASE": "2",
                },
            )
        self.process = self.process or process
        if wait:
            wait_until("ready", lambda: "ALL READY" in self.text or process.poll() is not None, 30)
            assert process.poll() is None, self.text
        return process

    @property
    def text(self) -> str:
        """What was printed so far."""
        return self.printed.read_text() if self.printed.exists() else ""

    def family(self) -> list[psutil.Process]:
        """All descendants."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals) -> tuple[int, float]:
        """Signal it; return exit code and seconds. Fails when a descendant is left."""
        assert self.process is not None
        family = self.family()
        start = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(timeout=20)
        seconds = time.monotonic() - start
        _, alive = psutil.wait_procs(family, timeout=GRACE + 2)
        assert not alive, f"left behind: {alive}"
        return code, seconds


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """A supervisor, killed at the end of the test."""
    found = Up(tmp_path)
    yield found
    if found.process is not None and found.process.poll() is None:
        found.end(signal.SIGKILL)


def test_whole_installation_starts_in_order_and_stops_cleanly(up: Up) -> None:
    needs = {"after": ["valkey"], "beat": True}
    up.start(gpu=needs, training=needs, valkey={}, web={"beat": True})
    valkey = Valkey(up.home)
    conn = valkey.connect()
    wait_until("registered", lambda: [entry["workers"] for entry in pending_jobs(conn).values()] == [1, 1])
    lines = up.text.splitlines()
    assert any(re.match(r"valkey   \| .*Ready to accept connections", line) for line in lines)
    assert any(re.match(r"web      \| web \d+$", line) for line in lines)
    log = up.home / "logs" / "maskloop.log"
    assert log.stat().st_mode & 0o777 == 0o600
    assert re.search(r"^\d{4}-\d\d-\d\d \S+ web      \| web \d+$", log.read_text(), re.MULTILINE)
    conn.set("kept", 1)
    code, seconds = up.end(signal.SIGINT)
    assert code == 0
    assert seconds < 6
    text = up.text
    assert "has ended with" not in text
    # Valkey goes last, so that workers can say good-bye.
    assert "User requested shutdown" in text or "SIGTERM" in text
    conn = valkey.start()
    assert conn.get("kept") == b"1"
    assert [entry["workers"] for entry in pending_jobs(conn).values()] == [0, 0]
    valkey.stop()


def test_what_ends_is_started_again_after_growing_pauses(up: Up) -> None:
    up.start(crash={}, wait=False)
    wait_until("three starts", lambda: len(re.findall(r"^crash +\| crash \d+", up.text, re.MULTILINE)) >= 3, 20)
    assert re.findall(r"crash has ended with exit code 3; starts again in (\d) s", up.text)[:2] == ["1", "2"]


def test_killed_service_comes_back(up: Up) -> None:
    up.start(web={})
    first = up.family()[0]
    first.kill()
    wait_until("back", lambda: [p for p in up.family() if p.pid != first.pid], 5)
    assert "web has ended with signal 9 (Killed); starts again in 1 s" in up.text


def test_what_shows_no_life_is_killed_and_what_does_is_not(up: Up) -> None:
    up.start(hang={"beat": True}, web={"beat": True})
    wait_until("killed", lambda: "hang has shown no life for 1.5 s: killed" in up.text, 10)
    wait_until("again", lambda: len(re.findall(r"\| hang \d+", up.text)) >= 2, 10)
    assert "web has" not in up.text


def test_stops_in_time_when_a_service_does_not_listen(up: Up) -> None:
    up.start(stubborn={}, valkey={}, web={"after": ["valkey"]})
    wait_until("deaf", lambda: "stubborn " in up.text.replace("stubborn |", ""))
    time.sleep(0.3)
    code, seconds = up.end(signal.SIGTERM)
    assert code == 0
    assert 4 < seconds < 10


def test_second_interrupt_ends_at_once(up: Up) -> None:
    up.start(stubborn={})
    wait_until("deaf", lambda: "stubborn " in up.text.replace("stubborn |", ""))
    time.sleep(0.3)
    assert up.process is not None
    up.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    _, seconds = up.end(signal.SIGINT)
    assert seconds < 2


def test_second_supervisor_on_one_home_is_refused_by_name(up: Up) -> None:
    first = up.start(web={})
    second = up.start(wait=False, web={})
    assert second.wait(timeout=20) == 5
    assert f"as process {first.pid}" in up.text
    assert "MASKLOOP_HOME" in up.text
    assert first.poll() is None


def test_nothing_outlives_a_killed_supervisor(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, job in EXTRA.items():
        monkeypatch.setitem(JOBS, name, job)
    needs = {"after": ["valkey"], "beat": True}
    up.start(valkey={}, gpu=needs, training=needs, foreign={}, web={})
    valkey = Valkey(up.home)
    queue: Queue = training_queue(valkey.connect())
    workers = Workers(valkey, up.home)
    workers.put(queue, "steps", 1000)
    wait_until("training", lambda: workers.notes("start"), 20)
    assert len(up.family()) == 6  # five services and the training's own process
    up.end(signal.SIGKILL)


def test_a_wait_for_an_unknown_service_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'web' waits for \['valkey'\]"):
        Supervisor([Service("web", ["true"], after=("valkey",))], home=tmp_path)
