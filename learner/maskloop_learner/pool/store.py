"""A content-addressed store of images, masks, weights and manifests, on a folder, a bucket or any fsspec URL."""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Literal

from maskloop_learner.pool.blobs import BlobError, StoreDown, StoreError
from maskloop_learner.pool.filesystem import open_blobs

__all__ = ["BlobError", "Kind", "Store", "StoreDown", "StoreError"]

Kind = Literal["images", "masks", "maps", "weights", "manifests"]
_DIGITS = "0123456789abcdef"


class Store:
    """Blobs by the sha256 of their bytes. Writing one twice is harmless; a blob is seen whole or not at all.

    All methods raise StoreDown when a store on another machine does not answer, and OSError when a disk fails.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        """`options`: keywords for the URL's library, see MASKLOOP_STORE_OPTIONS."""
        self.url = url.rstrip("/")
        self._blobs = open_blobs(self.url, options or {})

    def put(self, kind: Kind, data: bytes) -> str:
        """Keep `data`; return its digest. A blob that is there but was altered is mended.

        One that is there and whole counts as new from now on, so that no clean-up takes it for a left-over.
        """
        digest = hashlib.sha256(data).hexdigest()
        self._blobs.keep(_path(kind, digest), data)
        return digest

    def get(self, kind: Kind, digest: str) -> bytes:
        """The bytes of a blob. Raises BlobError when it is missing or was altered."""
        path = _path(kind, digest)
        try:
            data = self._blobs.read(path)
        except FileNotFoundError as error:
            raise BlobError(f"{kind} blob {digest} is missing from the store {self.url}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise BlobError(f"{kind} blob {digest} in the store {self.url} was altered: its bytes have another digest")
        return data

    def exists(self, kind: Kind, digest: str) -> bool:
        """Whether the blob is there (its bytes are not checked)."""
        return self._blobs.exists(_path(kind, digest))

    def delete(self, kind: Kind, digest: str) -> bool:
        """Remove a blob for good; return whether it was there. The caller knows that nothing refers to it."""
        return self._blobs.delete(_path(kind, digest))

    def list_blobs(self, kind: Kind, prefix: str = "") -> Iterator[str]:
        """Digests of the blobs of a kind that are there, those that begin with `prefix`; in no order."""
        for folder in self._folders(kind, prefix):
            for entry in self._blobs.list(folder):
                digest = entry.path.rpartition("/")[2]
                if _is_digest(digest) and digest.startswith(prefix):
                    yield digest

    def size(self, kind: Kind, digest: str) -> int:
        """Bytes of a blob. Raises BlobError when it is missing."""
        try:
            return self._blobs.look(_path(kind, digest)).size
        except FileNotFoundError as error:
            raise BlobError(f"{kind} blob {digest} is missing from the store {self.url}") from error

    def is_older(self, kind: Kind, digest: str, age: timedelta) -> bool:
        """Whether the blob is there and was put longer ago than `age`."""
        try:
            return self._blobs.look(_path(kind, digest)).age >= age
        except FileNotFoundError:
            return False

    def discard(self, kind: Kind, digest: str, *, grace: timedelta) -> bool:
        """Remove a blob that nothing refers to, unless it was put within `grace`; return whether it is gone.

        A blob that is put in the same moment stays, in local folders whatever the order of events.
        """
        return self._blobs.discard(_path(kind, digest), grace)

    def sweep(self) -> int:
        """Delete what killed writers left behind (local folders only); return how many files."""
        return self._blobs.sweep()

    def _folders(self, kind: Kind, prefix: str) -> list[str]:
        """The folders that hold the blobs whose digests begin with `prefix`: buckets list whole folders only."""
        if not prefix:
            return [kind]
        shards = [prefix[:2]] if len(prefix) > 1 else self._blobs.list_folders(kind)
        return [f"{kind}/{shard}" for shard in shards if shard.startswith(prefix[:2])]


def _path(kind: Kind, digest: str) -> str:
    if not _is_digest(digest):
        raise StoreError(f"a digest must be 64 lower-case hex digits, got {digest!r}")
    return f"{kind}/{digest[:2]}/{digest}"


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(c in _DIGITS for c in text)
