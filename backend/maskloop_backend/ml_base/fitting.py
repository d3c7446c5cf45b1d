"""Runs `fit` off the HTTP requests: in order within a project, projects beside each other, in one process at a time."""

import fcntl
import logging
import threading
from pathlib import Path

from maskloop_backend.ml_base.base import LabelStudioMLBase
from maskloop_backend.ml_base.events import Event, Events

logger = logging.getLogger(__name__)

LOOK_EVERY = 0.5
"""Seconds after which the process that fits looks for events that another process took in."""
ATTEMPTS = 3
"""Starts of `fit` with one event; a process that died in it each time would die in it for ever."""


class Fits:
    """Background threads that hand events to `fit`. Of several processes one works; when it dies another goes on."""

    def __init__(self, model_class: type[LabelStudioMLBase], events: Events, *, home: Path, threads: int) -> None:
        self.model_class, self.events, self.threads = model_class, events, threads
        self._lock_path = home / f"ml-base-{model_class.__name__}.lock"
        self._busy: set[str] = set()
        self._changed = threading.Condition()
        self._stopping = False

    def start(self) -> None:
        """Begin. All threads are daemons: a `fit` that is cut off by the end of the process is begun again."""
        threading.Thread(target=self._run, name="fits", daemon=True).start()

    def wake(self) -> None:
        """Have it look now: an event came in."""
        with self._changed:
            self._changed.notify_all()

    def stop(self) -> None:
        """Begin no more; what runs goes on until the process ends."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _run(self) -> None:
        with self._lock_path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel with the process, however it ends
            while True:
                with self._changed:
                    if self._stopping:
                        break
                try:
                    began = self._begin()
                except Exception:
                    # A database that fails now may work in a moment.
                    logger.exception("%s: events cannot be read; trying again", self._name)
                    began = False
                if not began:
                    with self._changed:
                        self._changed.wait(LOOK_EVERY)
            self._finish_running()

    def _finish_running(self) -> None:
        # The lock stays with this process while one of its fits runs.
        with self._changed:
            while self._busy:
                self._changed.wait()

    def _begin(self) -> bool:
        """Start a thread for the next event; False when there is nothing to do or no thread free."""
        with self._changed:
            busy = set(self._busy)
        if len(busy) >= self.threads:
            return False
        event = self.events.take(busy)
        if event is None:
            return False
        with self._changed:
            self._busy.add(event.project)
        threading.Thread(target=self._fit, args=(event,), name=f"fit-{event.project}", daemon=True).start()
        return True

    def _fit(self, event: Event) -> None:
        error: BaseException | None = None
        try:
            if event.attempts >= ATTEMPTS:
                raise RuntimeError(f"given up: the process died {event.attempts} times in fit with this event")
            model = self.model_class(project_id=event.project, label_config=event.label_config)
            model.fit(event.event, event.data)
        except BaseException as caught:
            error = caught
            logger.exception("%s: fit of project %s on %s failed", self._name, event.project, event.event)
        try:
            self.events.finish(event, error)
        finally:
            with self._changed:
                self._busy.discard(event.project)
                self._changed.notify_all()

    @property
    def _name(self) -> str:
        return self.model_class.__name__
