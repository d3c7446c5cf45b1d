"""What an import was sending when it ended: Label Studio may finish a request whose sender was killed."""

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from maskloop_backend.labelstudio.client import LabelStudioError
from maskloop_backend.transfer import TransferError
from maskloop_backend.transfer.known import Known

log = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds since a request was sent in which Label Studio has surely dealt with it."""
PERIOD = 1.0


class Journal:
    """One project's imports on this machine: one at a time, and the keys that are on their way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Raises TransferError while another import into the project runs."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise TransferError("another import into this project is running; wait for it") from error
            yield

    @contextmanager
    def sending(self, keys: Sequence[str]) -> Iterator[None]:
        """Note keys before their tasks are sent, forget them when Label Studio has answered."""
        temporary = self.path.with_suffix(".new")
        with temporary.open("w") as file:
            json.dump({"at": time.time(), "keys": list(keys)}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        try:
            yield
        except LabelStudioError as error:
            # Refused is refused; one that timed out may still be at work.
            if 400 <= error.status < 500:
                self.path.unlink(missing_ok=True)
            raise
        self.path.unlink(missing_ok=True)

    def settle(self, known: Known) -> None:
        """Wait until what an earlier import was sending has arrived, or will not any more."""
        try:
            left = json.loads(self.path.read_text())
            keys, end = [str(key) for key in left["keys"]], min(float(left["at"]), time.time()) + PATIENCE
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError) as error:
            raise TransferError(
                f"{self.path} is damaged ({error}); delete it a minute after the last import"
            ) from error
        if set(keys) - known.tasks.keys() and time.time() < end:
            log.info("an import ended half-way; waiting up to %.0f s for what it was sending", end - time.time())
        while set(keys) - known.tasks.keys() and time.time() < end:
            time.sleep(PERIOD)
            known.look_for(keys)
        self.path.unlink(missing_ok=True)
