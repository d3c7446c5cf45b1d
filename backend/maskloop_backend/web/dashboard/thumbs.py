"""Small pictures of images, kept on disk up to a bound; the least recently used go first."""

import logging
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

LOWER = 0.8
"""A clean-up leaves this share of the bound, so that it is not made with every picture."""


class Thumbs:
    """Files by name in one folder. What cannot be kept is made anew: a full disk costs time only."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`limit` in bytes; 0 keeps nothing."""
        self._folder, self._limit = folder, limit
        self._lock = threading.Lock()
        self._bytes: int | None = None

    def get(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The picture of this name, made where it is not kept."""
        path = self._folder / name[:2] / name
        try:
            data = path.read_bytes()
        except OSError:
            data = make()
            self._keep(path, data)
            return data
        # Its time says when it was used last; where that cannot be written, it goes a little sooner.
        self._touch(path)
        return data

    def _touch(self, path: Path) -> None:
        try:
            os.utime(path)
        except OSError as error:
            logger.debug("%s cannot be touched: %s", path, error)

    def _keep(self, path: Path, data: bytes) -> None:
        if not self._limit:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
            self._count(len(data))
        except OSError as error:
            logger.warning("the picture %s cannot be kept: %s", path, error)

    def _count(self, more: int) -> None:
        with self._lock:
            if self._bytes is None:
                self._bytes = sum(size for _, size, _ in self._files())
            else:
                self._bytes += more
            if self._bytes <= self._limit:
                return
            files = sorted(self._files())
            self._bytes = sum(size for _, size, _ in files)
            for _, size, path in files:
                if self._bytes <= self._limit * LOWER:
                    break
                path.unlink(missing_ok=True)
                self._bytes -= size

    def _files(self) -> list[tuple[float, int, Path]]:
        """When each was used last, its bytes, its path."""
        found = []
        for path in self._folder.glob("*/*"):
            try:
                seen = path.stat()
            except FileNotFoundError:
                continue  # another process cleaned it away
            found.append((seen.st_mtime, seen.st_size, path))
        return found
