"""Files that are seen whole or not at all, whoever is killed while writing them."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

STALE = 24 * 3600.0
"""Seconds after which a part file is what a killed process left."""


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, bring it to disk, and give it the name. Makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(".*.part"):
        if time.time() - left.stat().st_mtime > STALE:
            left.unlink(missing_ok=True)
    # A name of its own: two processes may write the same file at once, and either result is right.
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        write(temporary)
        flush(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    flush(path.parent)


def flush(path: Path) -> None:
    """Bring a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
