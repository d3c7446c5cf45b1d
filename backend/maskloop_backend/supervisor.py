"""Keeps the processes of an installation running: `maskloop up` and `maskloop demo`."""

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from maskloop_backend.output import Output
from maskloop_backend.supervised import Service, Supervised

__all__ = ["HomeBusy", "Service", "Supervisor"]

TURN = 0.1
"""Seconds between two looks at the processes."""
STOP_GRACE = 5.0
"""Seconds a process has to end once it is asked to."""
STOP_LIMIT = 8.0
"""Seconds after which everything that still runs is killed."""


class HomeBusy(RuntimeError):
    """Another supervisor runs on the same home folder; names its process."""


class Supervisor:
    """Starts services in order, restarts what ends or hangs, and stops all of them cleanly."""

    def __init__(
        self,
        services: Sequence[Service],
        *,
        home: Path,
        log_path: Path | None = None,
        hang_timeout: float = 180.0,
        on_ready: Callable[[], None] | None = None,
        stop: threading.Event | None = None,
        terminal: TextIO | None = None,
    ) -> None:
        """`on_ready` is called once, when every service was ready for the first time; setting `stop` ends `run`.

        ValueError when a service waits for one that is not there.
        """
        names = [service.name for service in services]
        for service in services:
            if missing := set(service.after) - set(names):
                raise ValueError(f"service {service.name!r} waits for {sorted(missing)}, which is not among {names}")
        self.home = home
        self.stop = stop or threading.Event()
        self._on_ready = on_ready
        self._log_path = log_path or home / "logs" / "maskloop.log"
        self._names, self._terminal = ["maskloop", *names], terminal
        self._services, self._hang_timeout = services, hang_timeout
        self._signals = 0

    def run(self) -> int:
        """Supervise until SIGINT, SIGTERM or `stop`; return 0. To be called in the main thread.

        HomeBusy when another supervisor serves this home folder.
        """
        with hold_home(self.home):
            quiet = frozenset(service.name for service in self._services if service.quiet)
            output = Output(self._log_path, self._names, self._terminal, quiet)
            before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._on_signal)
            children = [Supervised(service, output, hang_timeout=self._hang_timeout) for service in self._services]
            try:
                self._keep_running(children)
            finally:
                self._stop_all(children, output)
                for number, handler in before.items():
                    signal.signal(number, handler)
                output.close()
        return 0

    def _keep_running(self, children: list[Supervised]) -> None:
        waiting = {child.service.name for child in children}
        while not self.stop.wait(TURN):
            for child in children:
                if not waiting.intersection(child.service.after):
                    child.start_if_due()
                child.look()
                if child.is_ready:
                    waiting.discard(child.service.name)
            if not waiting and self._on_ready is not None:
                announce, self._on_ready = self._on_ready, None
                announce()

    def _stop_all(self, children: list[Supervised], output: Output) -> None:
        output.write("maskloop", "stopping")
        end = time.monotonic() + STOP_LIMIT
        while running := [child for child in children if child.pid is not None]:
            needed = {name for child in running for name in child.service.after}
            for child in running:
                if child.service.name not in needed:
                    child.ask_to_stop()
                if child.asked_for > STOP_GRACE or time.monotonic() > end or self._signals > 1:
                    child.ask_to_stop()
                    child.kill()
                child.look()
            time.sleep(0.05)
        output.write("maskloop", "stopped")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        self.stop.set()


@contextmanager
def hold_home(home: Path) -> Iterator[None]:
    """Be the only supervisor of this home folder. HomeBusy, naming the other process, when there is one."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(home / "maskloop.lock", "a+") as lock:
        try:
            # The kernel frees it when this process dies, however it dies.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            pid = lock.read().strip() or "unknown"
            raise HomeBusy(
                f"maskloop is running on {home} already, as process {pid}: "
                f"stop that one (Ctrl-C in its terminal, or `kill {pid}`), or give this one another MASKLOOP_HOME"
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
