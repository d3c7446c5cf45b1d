"""A content-addressed store of images, masks, weights and manifests, on a folder or any fsspec URL."""

import hashlib
import os
from typing import Literal
from uuid import uuid4

import fsspec

Kind = Literal["images", "masks", "weights", "manifests"]


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
        if self._fs.exists(path) and bytes(self._fs.cat_file(path)) == data:
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
