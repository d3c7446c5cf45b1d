"""Where a backup is written: into a folder, where blobs of the last one are not written again, or into a tar file."""

import fcntl
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from maskloop_backend.backup.content import MANIFEST, BackupError, Entry, Manifest

_CHUNK = 1 << 20
_UNFINISHED = "unfinished"
_LOCK = "lock"


class Writer(Protocol):
    """Takes a backup's files; nothing counts as a backup before `finish`."""

    scratch: Path
    """A folder on the same disk for files in the making; it goes with the writer."""

    def has(self, name: str, digest: str) -> bool:
        """Whether a blob is there from an earlier backup."""
        ...

    def add_bytes(self, name: str, data: bytes) -> Entry:
        """Add a small file or a blob."""
        ...

    def add_file(self, name: str, path: Path) -> Entry:
        """Add a file of any size."""
        ...

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest: from now on this is the backup."""
        ...


@contextmanager
def open_writer(target: Path) -> Iterator["Writer"]:
    """A writer for a folder, or for a file when `target` ends in .tar. BackupError when it cannot be used."""
    try:
        if target.suffix == ".tar":
            with _open_tar(target) as tar:
                yield tar
        else:
            with _open_folder(target) as folder:
                yield folder
    except OSError as error:
        raise BackupError(f"{target}: {error.strerror or error}: the backup was not made") from error


class FolderWriter:
    """A folder that holds the newest backup; files that it needs no more are removed when the next one is whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scratch = folder / f"scratch-{os.getpid()}"
        # What the machine wrote before it lost power may be torn, so it is looked at again.
        self._distrust = (folder / _UNFINISHED).exists()
        (folder / _UNFINISHED).touch()
        _sync(folder)

    def has(self, name: str, digest: str) -> bool:
        """See Writer."""
        path = self.folder / name
        return path.is_file() and (not self._distrust or hash_file(path).sha256 == digest)

    def add_bytes(self, name: str, data: bytes) -> Entry:
        """See Writer."""
        half = self.scratch / "half"
        with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        self._place(half, name)
        return Entry(hashlib.sha256(data).hexdigest(), len(data))

    def add_file(self, name: str, path: Path) -> Entry:
        """See Writer."""
        there, half = self.folder / name, self.scratch / "half"
        if there.is_file() and there.stat().st_size == path.stat().st_size:
            entry = hash_file(path)
            if hash_file(there) == entry:
                return entry
        with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as to, open(path, "rb") as source:
            shutil.copyfileobj(source, to, _CHUNK)
        entry = hash_file(half)
        self._place(half, name)
        return entry

    def finish(self, manifest: Manifest) -> None:
        """See Writer."""
        os.sync()  # every file, before the manifest says that they are there
        self.add_bytes(MANIFEST, manifest.to_bytes())
        os.sync()
        kept = manifest.names | {MANIFEST, _LOCK}
        for path in sorted(self.folder.rglob("*"), reverse=True):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and name not in kept:
                path.unlink()
            elif path.is_dir() and path != self.scratch and not any(path.iterdir()):
                path.rmdir()
        (self.folder / _UNFINISHED).unlink(missing_ok=True)

    def _place(self, half: Path, name: str) -> None:
        path = self.folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.replace(half, path)


class TarWriter:
    """A tar file without compression: images and masks are compressed already."""

    def __init__(self, path: Path, scratch: Path) -> None:
        self.path, self.scratch = path, scratch
        self._half = scratch / "half.tar"
        self._file = open(os.open(self._half, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b")  # noqa: SIM115
        self._tar = tarfile.open(fileobj=self._file, mode="w")  # noqa: SIM115

    def has(self, name: str, digest: str) -> bool:
        """See Writer: a tar file is always written whole."""
        return False

    def add_bytes(self, name: str, data: bytes) -> Entry:
        """See Writer."""
        self._add(name, io.BytesIO(data), len(data))
        return Entry(hashlib.sha256(data).hexdigest(), len(data))

    def add_file(self, name: str, path: Path) -> Entry:
        """See Writer."""
        entry = hash_file(path)
        with open(path, "rb") as source:
            self._add(name, source, entry.size)
        return entry

    def finish(self, manifest: Manifest) -> None:
        """See Writer."""
        self.add_bytes(MANIFEST, manifest.to_bytes())
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._half, self.path)
        _sync(self.path.parent)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _add(self, name: str, source: IO[bytes], size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        self._tar.addfile(info, source)


def hash_file(path: Path) -> Entry:
    """Digest and size of a file of any size."""
    with open(path, "rb") as file:
        return Entry(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


@contextmanager
def _open_folder(folder: Path) -> Iterator[FolderWriter]:
    known = {MANIFEST, _UNFINISHED, _LOCK}
    if folder.exists() and any(folder.iterdir()) and not known & {path.name for path in folder.iterdir()}:
        raise BackupError(f"{folder} holds other things than a backup; name an empty folder, a new one, or a .tar file")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / _LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupError(f"another backup is being written to {folder}; wait for its end") from error
        for left in folder.glob("scratch-*"):
            shutil.rmtree(left, ignore_errors=True)
        writer = FolderWriter(folder)
        writer.scratch.mkdir(mode=0o700)
        try:
            yield writer
        finally:
            shutil.rmtree(writer.scratch, ignore_errors=True)


@contextmanager
def _open_tar(path: Path) -> Iterator[TarWriter]:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.parent / f".{path.name}.scratch"
    # Two at once would spoil each other's: the later one takes the place of one that was killed.
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    writer = TarWriter(path, scratch)
    try:
        yield writer
    finally:
        writer.close()
        shutil.rmtree(scratch, ignore_errors=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
