"""A backup that is read: every file in turn, with its bytes checked against the manifest."""

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from maskloop_backend.backup.content import MANIFEST, BackupError, Manifest

_CHUNK = 1 << 20
Taken = Callable[[str], IO[bytes] | None]
"""Name of a file -> where its bytes go, or None."""


class Reader:
    """A backup in a folder or a tar file."""

    def __init__(self, path: Path) -> None:
        """BackupError when there is no whole backup."""
        self.path = path
        if not path.exists():
            raise BackupError(f"{path} does not exist; name a folder or .tar file that `maskloop backup` made")
        try:
            data = next((file.read() for name, file in self._files() if name == MANIFEST), None)
        except (OSError, tarfile.TarError) as error:
            raise BackupError(f"{path} cannot be read: {error}; is it a backup, and whole?") from error
        if data is None:
            raise BackupError(f"{path} has no {MANIFEST}: it is no backup, or one that was cut short; take another one")
        self.manifest = Manifest.from_bytes(data, where=str(path))

    def copy(self, take: Taken, *, tick: Callable[[], None] = lambda: None) -> None:
        """Go through all files once, checking each against the manifest and writing it where `take` says.

        BackupError at the first that is missing or altered; `tick` is called after each file.
        """
        wanted = self.manifest.names
        try:
            for name, source in self._files():
                if name in wanted:
                    self._copy_one(name, source, take(name))
                    wanted.discard(name)
                    tick()
        except (OSError, tarfile.TarError) as error:
            raise BackupError(f"{self.path}: {error}: it cannot be read, or there is no room to write") from error
        if wanted:
            lost = f"{len(wanted)} files of it are missing, such as {min(wanted)}"
            raise BackupError(f"{self.path} is not whole: {lost}; take another backup")

    def check(self, *, tick: Callable[[], None] = lambda: None) -> None:
        """Read all of it. BackupError when something is missing or altered."""
        self.copy(lambda name: None, tick=tick)

    def _copy_one(self, name: str, source: IO[bytes], to: IO[bytes] | None) -> None:
        digest = hashlib.sha256()
        try:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                if to is not None:
                    to.write(chunk)
        finally:
            if to is not None:
                to.close()
        entry = self.manifest.files.get(name)
        if digest.hexdigest() != (entry.sha256 if entry else name.rsplit("/", 1)[1]):
            raise BackupError(f"{self.path}: {name} was altered since the backup was made; take another backup")

    def _files(self) -> Iterator[tuple[str, IO[bytes]]]:
        if self.path.is_dir():
            for path in sorted(self.path.rglob("*")):
                if path.is_file() and not path.is_symlink():
                    with open(path, "rb") as file:
                        yield path.relative_to(self.path).as_posix(), file
            return
        with tarfile.open(self.path, "r:") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is not None:
                    with content:
                        yield member.name, content
