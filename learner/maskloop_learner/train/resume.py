"""The file from which a killed training goes on."""

import logging
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Replace the file whole or not at all, also when the power fails. Raises OSError when it cannot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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
