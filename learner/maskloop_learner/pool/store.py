"""A content-addressed store of images, masks, weights and manifests, on a folder, a bucket or any fsspec URL."""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from maskloop_learner.pool.blobs import Folder, StoreDown, StoreError, open_blobs

__all__ = ["Blob", "Kind", "Store", "StoreDown", "StoreError"]

Kind = Literal["images", "masks", "weights", "manifests"]


class Blob(NamedTuple):
    """One blob as a listing shows it."""

    digest: str
    size: int
    """Bytes."""
    modified: datetime


class Store:
    """Blobs by the sha256 of their bytes. Writing one twice is harmless; a blob is seen whole or not at all."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        """`options`: keywords for the URL's library, see MASKLOOP_STORE_OPTIONS."""
        self.url = url.rstrip("/")
        self._blobs = open_blobs(self.url, options or {})

    def put(self, kind: Kind, data: bytes) -> str:
        """Keep `data`; return its digest. A blob that is there but was altered is mended.

        Raises StoreDown when the store does not answer, OSError when a disk is full.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = _path(kind, digest)
        if isinstance(self._blobs, Folder) and self._blobs.exists(path) and self._blobs.read(path) == data:
            return digest
        self._blobs.write(path, data)
        return digest

    def get(self, kind: Kind, digest: str) -> bytes:
        """The bytes of a blob. Raises StoreError when it is missing or was altered."""
        path = _path(kind, digest)
        try:
            data = self._blobs.read(path)
        except FileNotFoundError as error:
            raise StoreError(f"{kind} blob {digest} is missing from the store {self.url}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise StoreError(f"{kind} blob {digest} in the store {self.url} was altered: its bytes have another digest")
        return data

    def exists(self, kind: Kind, digest: str) -> bool:
        """Whether the blob is there (its bytes are not checked)."""
        return self._blobs.exists(_path(kind, digest))

    def list_blobs(self, kind: Kind) -> Iterator[Blob]:
        """All blobs of a kind, in no order."""
        for entry in self._blobs.list(kind):
            digest = entry.path.rpartition("/")[2]
            if _is_digest(digest):
                yield Blob(digest, entry.size, entry.modified)

    def remove(self, kind: Kind, digest: str) -> None:
        """Delete a blob; harmless when it is gone."""
        self._blobs.delete(_path(kind, digest))

    def sweep(self) -> int:
        """Delete what killed writers left behind (local folders only); return how many files."""
        return self._blobs.sweep()


def _path(kind: Kind, digest: str) -> str:
    if not _is_digest(digest):
        raise StoreError(f"a digest must be 64 lower-case hex digits, got {digest!r}")
    return f"{kind}/{digest[:2]}/{digest}"


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)
