"""A content-addressed store of images, masks, weights and manifests, on a folder or any fsspec URL."""

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import uuid4

import fsspec

Kind = Literal["images", "masks", "weights", "manifests"]
FRESH = timedelta(hours=1)
"""A blob that is put again counts as new from then on; one that is newer than this need not be written again."""


class StoreError(RuntimeError):
    """A blob is missing from the store or is not what its digest says, or its digest is none."""


class BlobError(StoreError):
    """The store answers, and the blob is missing or is not what its digest says."""


class Store:
    """Blobs by the sha256 of their bytes. Writing one twice is harmless; a blob is seen whole or not at all."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._fs, self._root = fsspec.core.url_to_fs(self.url)
        protocol = self._fs.protocol
        self._local = "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def put(self, kind: Kind, data: bytes) -> str:
        """Keep `data`; return its digest. A blob that is there but was altered is mended."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(kind, digest)
        if self._holds(path, data):
            return digest
        if self._local:
            self._write_local(path, data)
        else:
            self._fs.pipe_file(path, data)
        return digest

    def get(self, kind: Kind, digest: str) -> bytes:
        """The bytes of a blob. Raises StoreError when it is missing or was altered."""
        path = self._path(kind, digest)
        try:
            data = bytes(self._fs.cat_file(path))
        except FileNotFoundError as error:
            raise BlobError(f"{kind} blob {digest} is missing from the store {self.url}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise BlobError(f"{kind} blob {digest} in the store {self.url} was altered: its bytes have another digest")
        return data

    def exists(self, kind: Kind, digest: str) -> bool:
        """Whether the blob is there (its bytes are not checked)."""
        return bool(self._fs.exists(self._path(kind, digest)))

    def delete(self, kind: Kind, digest: str) -> bool:
        """Remove a blob for good; return whether it was there. The caller knows that nothing refers to it."""
        path = self._path(kind, digest)
        try:
            self._fs.rm_file(path)
        except FileNotFoundError:
            return False
        return True

    def list_blobs(self, kind: Kind, prefix: str = "") -> Iterator[str]:
        """Digests of the blobs of a kind that are there, those that begin with `prefix`."""
        self._fs.invalidate_cache()
        folder = f"{self._root}/{kind}"
        shards = [f"{folder}/{prefix[:2]}"] if len(prefix) >= 2 else self._names(folder)
        for shard in shards:
            if not shard.rsplit("/", 1)[1].startswith(prefix[:2]):
                continue
            for path in self._names(shard):
                digest = path.rsplit("/", 1)[1]
                if len(digest) == 64 and digest.startswith(prefix):
                    yield digest

    def size(self, kind: Kind, digest: str) -> int:
        """Bytes of a blob. Raises StoreError when it is missing."""
        try:
            return int(self._fs.size(self._path(kind, digest)))
        except FileNotFoundError as error:
            raise StoreError(f"{kind} blob {digest} is missing from the store {self.url}") from error

    def is_older(self, kind: Kind, digest: str, age: timedelta) -> bool:
        """Whether the blob is there and was put longer ago than `age`."""
        try:
            return self._age(self._path(kind, digest)) >= age
        except FileNotFoundError:
            return False

    def discard(self, kind: Kind, digest: str, *, grace: timedelta) -> bool:
        """Remove a blob that nothing refers to, unless it was put within `grace`; return whether it is gone.

        A blob that is put in the same moment stays, in local folders whatever the order of events.
        """
        path = self._path(kind, digest)
        try:
            if self._age(path) < grace:
                return False
            if not self._local:
                self._fs.rm_file(path)
                return True
            aside = f"{path}.tmp-{os.getpid()}-{uuid4().hex[:8]}"
            os.rename(path, aside)
        except FileNotFoundError:
            return False
        if self._age(aside) < grace:
            # Somebody put it between the look at its age and now: the same bytes, so nothing else is overwritten.
            os.replace(aside, path)
            return False
        os.unlink(aside)
        return True

    def sweep(self) -> int:
        """Delete what killed writers left behind (local folders only); return how many files."""
        if not self._local or not self._fs.exists(self._root):
            return 0
        # A writer of another process may be at work: only files of dead processes go.
        left = [p for p in self._fs.find(self._root) if ".tmp-" in p and not _alive(p)]
        for path in left:
            os.unlink(path)
        return len(left)

    def _path(self, kind: Kind, digest: str) -> str:
        if len(digest) != 64 or not all(c in "0123456789abcdef" for c in digest):
            raise StoreError(f"a digest must be 64 lower-case hex digits, got {digest!r}")
        return f"{self._root}/{kind}/{digest[:2]}/{digest}"

    def _names(self, folder: str) -> list[str]:
        try:
            return sorted(str(path).rstrip("/") for path in self._fs.ls(folder, detail=False))
        except FileNotFoundError:
            return []

    def _holds(self, path: str, data: bytes) -> bool:
        """Whether the blob is there, whole; it then counts as new, so that no clean-up takes it for a left-over."""
        try:
            if not self._fs.exists(path) or bytes(self._fs.cat_file(path)) != data:
                return False
            if self._local:
                os.utime(path)
                return True
            return self._age(path) < FRESH
        except FileNotFoundError:
            return False

    def _age(self, path: str) -> timedelta:
        if self._local:
            modified = datetime.fromtimestamp(os.stat(path).st_mtime, UTC)
        else:
            modified = self._fs.modified(path)
            modified = modified if modified.tzinfo else modified.replace(tzinfo=UTC)
        return datetime.now(UTC) - modified

    def _write_local(self, path: str, data: bytes) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{path}.tmp-{os.getpid()}-{uuid4().hex[:8]}"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise


def _alive(path: str) -> bool:
    pid = path.rsplit(".tmp-", 1)[1].split("-")[0]
    return pid.isdigit() and os.path.exists(f"/proc/{pid}")
