"""The file from which a killed training goes on.

It holds weights, optimizer and step. Learning rate, order, augmentation, prompts and noise of a step follow from seed
and number alone, so there is no state of a scheduler or of a generator that could be lost.
"""

import contextlib
import logging
import os
import pickle
import tempfile
from pathlib import Path
from typing import IO, Any, cast

import torch

log = logging.getLogger(__name__)


class Recorded:
    """A file whose first error is kept: what torch makes of it does not tell a full disk from a fault of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Pass on."""
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        """Pass on."""
        self._file.flush()


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Replace the file whole or not at all, also when the power fails. Raises OSError when it cannot (a full disk):
    what was there before is still there, and nothing else is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            recorded = Recorded(file)
            try:
                torch.save(state, cast(IO[bytes], recorded))
            except RuntimeError as error:
                if recorded.error is not None:
                    raise recorded.error from error
                raise
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        # The error that matters is the one on its way.
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def clear_leftovers(path: Path) -> None:
    """Remove what killed writers of the file left half written. One training at a time owns the file."""
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink(missing_ok=True)


def read_state(path: Path, *, run: str) -> dict[str, Any] | None:
    """The last state written for this run, on the CPU; None when there is none of it.

    A file of another run or one that cannot be read is left for the next write to replace: the training
    then starts anew, which costs time but is never wrong.
    """
    if not path.exists():
        return None
    try:
        # weights_only: the file runs no code.
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        same = state["run"] == run
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        log.warning("%s cannot be read (%s): training starts anew", path, str(error).partition("\n")[0])
        return None
    if not same:
        log.warning("%s belongs to another training: this one starts anew", path)
        return None
    return state
