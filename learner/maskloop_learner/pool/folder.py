"""Blobs in a folder of this machine."""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from maskloop_learner.pool.blobs import Entry


class Folder:
    """A folder of this machine."""

    def __init__(self, root: str) -> None:
        self.root = root

    def read(self, path: str) -> bytes:
        """See Blobs."""
        with open(f"{self.root}/{path}", "rb") as file:
            return file.read()

    def keep(self, path: str, data: bytes) -> None:
        """See Blobs. What is there, whole, is not written again."""
        final = f"{self.root}/{path}"
        try:
            if os.path.exists(final) and self.read(path) == data:
                os.utime(final)
                return
        except FileNotFoundError:
            pass  # it was discarded in this moment
        os.makedirs(os.path.dirname(final), exist_ok=True)
        temporary = f"{final}.tmp-{os.getpid()}-{uuid4().hex[:8]}"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, final)
        except OSError:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise

    def exists(self, path: str) -> bool:
        """See Blobs."""
        return os.path.exists(f"{self.root}/{path}")

    def look(self, path: str) -> Entry:
        """See Blobs."""
        found = os.stat(f"{self.root}/{path}")
        return Entry(path, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def delete(self, path: str) -> bool:
        """See Blobs."""
        try:
            os.unlink(f"{self.root}/{path}")
        except FileNotFoundError:
            return False
        return True

    def discard(self, path: str, grace: timedelta) -> bool:
        """See Blobs. A file that is kept in the same moment stays, whatever the order of events."""
        final = f"{self.root}/{path}"
        beside = f"{path}.tmp-{os.getpid()}-{uuid4().hex[:8]}"
        aside = f"{self.root}/{beside}"
        try:
            if self.look(path).age < grace:
                return False
            os.rename(final, aside)
        except FileNotFoundError:
            return False
        if self.look(beside).age < grace:
            # Somebody put it between the look at its age and now: the same bytes, so nothing else is overwritten.
            os.replace(aside, final)
            return False
        os.unlink(aside)
        return True

    def list(self, folder: str) -> Iterator[Entry]:
        """See Blobs. What a writer has not finished is left out."""
        for directory, _, names in os.walk(f"{self.root}/{folder}"):
            for name in names:
                if ".tmp-" in name:
                    continue
                try:
                    yield self.look(os.path.relpath(os.path.join(directory, name), self.root))
                except FileNotFoundError:
                    continue

    def list_folders(self, folder: str) -> Sequence[str]:
        """See Blobs."""
        try:
            return os.listdir(f"{self.root}/{folder}")
        except FileNotFoundError:
            return []

    def sweep(self) -> int:
        """See Blobs. A writer of another process may be at work: only files of dead processes go."""
        left = [
            os.path.join(folder, name)
            for folder, _, names in os.walk(self.root)
            for name in names
            if ".tmp-" in name and not _alive(name)
        ]
        for path in left:
            os.unlink(path)
        return len(left)


def _alive(name: str) -> bool:
    pid = name.rsplit(".tmp-", 1)[1].split("-")[0]
    return pid.isdigit() and os.path.exists(f"/proc/{pid}")
