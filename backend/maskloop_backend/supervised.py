"""One supervised process: its start, its signs of life, its end, and when it is started again."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from maskloop_backend.output import Output
from maskloop_queue.processes import BEAT_VARIABLE, PARENT_VARIABLE, Beat

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
STEADY = 60.0
"""Seconds after which a process counts as well and the pauses between its starts begin anew."""


@dataclass(frozen=True)
class Service:
    """What is to be kept running."""

    name: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    """Added to the supervisor's own environment."""
    after: tuple[str, ...] = ()
    """Names of services that must be ready before this one is started, and that are stopped after it."""
    ready: Callable[[], bool] | None = None
    """Whether the running process can be used; None: as soon as it has started. Must answer within a second."""
    beat: Path | None = None
    """The file by which the process shows life; None: it is not watched for hanging."""
    quiet: bool = False
    """Its lines go to the log alone, not to the terminal."""
    foreign: bool = False
    """Not one of our programs: it is started through one that has it die with the supervisor."""


class Supervised:
    """A service and its present process. All methods are for the supervisor's main thread."""

    def __init__(self, service: Service, output: Output, *, hang_timeout: float) -> None:
        self.service = service
        self.is_ready = False
        self._output = output
        self._hang_timeout = hang_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._started_at = self._start_at = self._alive_at = 0.0
        self._pause = FIRST_PAUSE
        self._mark: float | None = None
        self._asked_at: float | None = None

    @property
    def pid(self) -> int | None:
        """The process id; None when it is not running."""
        return self._process.pid if self._process else None

    def start_if_due(self) -> None:
        """Start the process unless it runs, or failed a moment ago."""
        if self._process is not None or time.monotonic() < self._start_at:
            return
        command = self.service.command
        if self.service.foreign:
            command = [sys.executable, "-m", "maskloop_queue.processes", *command]
        env = {**os.environ, "PYTHONUNBUFFERED": "1", **self.service.env}
        if not self.service.foreign:
            env[PARENT_VARIABLE] = str(os.getpid())
        if self.service.beat is not None:
            Beat(self.service.beat).touch()
            env[BEAT_VARIABLE] = str(self.service.beat)
        self._started_at = self._alive_at = time.monotonic()
        try:
            # A session of its own: Ctrl-C reaches the supervisor alone, and helpers can be ended as a group.
            # From the main thread only: its end is what the kernel tells the children of.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )
        except OSError as error:
            self._plan_restart(f"cannot be started: {error}")
            return
        assert process.stdout is not None
        self._process, self._asked_at = process, None
        self._reader = self._output.follow(self.service.name, process.stdout)

    def look(self) -> None:
        """Notice that the process has ended, hangs, or has become ready."""
        if self._process is None:
            return
        code = self._process.poll()
        if code is not None:
            self._end()
            if self._asked_at is None:
                how = f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"
                self._plan_restart(f"has ended with {how}")
            return
        if self._hangs():
            self._say(f"has shown no life for {self._hang_timeout:g} s: killed")
            self._alive_at = time.monotonic()
            self.kill()
        elif not self.is_ready:
            self.is_ready = self.service.ready is None or self.service.ready()

    def ask_to_stop(self) -> None:
        """Send SIGTERM, once."""
        if self._process is not None and self._asked_at is None:
            self._asked_at = time.monotonic()
            self._process.terminate()

    @property
    def asked_for(self) -> float:
        """Seconds since it was asked to stop."""
        return 0.0 if self._asked_at is None else time.monotonic() - self._asked_at

    def kill(self) -> None:
        """End the process and its helpers by force."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _end(self) -> None:
        self.kill()  # helpers that it left behind
        self._process = None
        self.is_ready = False
        if self._reader is not None:
            self._reader.join(timeout=1.0)

    def _plan_restart(self, what: str) -> None:
        if time.monotonic() - self._started_at >= STEADY:
            self._pause = FIRST_PAUSE
        self._say(f"{what}; starts again in {self._pause:g} s")
        self._start_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _hangs(self) -> bool:
        """Whether the beat has not changed for too long by our clock, which a laptop's sleep does not move."""
        if self.service.beat is None:
            return False
        try:
            mark = self.service.beat.stat().st_mtime
        except FileNotFoundError:
            mark = None
        if mark != self._mark:
            self._mark, self._alive_at = mark, time.monotonic()
        return time.monotonic() - self._alive_at > self._hang_timeout

    def _say(self, what: str) -> None:
        self._output.write("maskloop", f"{self.service.name} {what}")
