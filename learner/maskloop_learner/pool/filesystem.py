"""Blobs on any file system that fsspec opens, and the choice of the place by the store's URL."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import fsspec

from maskloop_learner.pool.blobs import Blobs, Entry, StoreError, discard_old
from maskloop_learner.pool.bucket import SCHEMES, Bucket
from maskloop_learner.pool.folder import Folder


def open_blobs(url: str, options: Mapping[str, Any]) -> Blobs:
    """The place that `url` names. `options` are keywords of its library. Raises StoreError when it cannot be used."""
    scheme = urlsplit(url).scheme
    if scheme in SCHEMES:
        return Bucket(url, options)
    try:
        system, root = fsspec.core.url_to_fs(url, **options)
    except (ValueError, ImportError, TypeError) as error:
        raise StoreError(f"MASKLOOP_STORE_URL {url!r} cannot be opened: {error}") from error
    protocol = system.protocol
    local = "file" in ((protocol,) if isinstance(protocol, str) else protocol)
    return Folder(root) if local else FileSystem(url, system, root)


class FileSystem:
    """Anything that is neither a folder of this machine nor a bucket."""

    def __init__(self, url: str, system: Any, root: str) -> None:
        self.url, self._system, self._root = url, system, root

    def read(self, path: str) -> bytes:
        """See Blobs."""
        return bytes(self._system.cat_file(f"{self._root}/{path}"))

    def keep(self, path: str, data: bytes) -> None:
        """See Blobs."""
        final = f"{self._root}/{path}"
        self._system.makedirs(final.rpartition("/")[0], exist_ok=True)
        temporary = f"{final}.tmp-{uuid4().hex[:8]}"
        self._system.pipe_file(temporary, data)
        self._system.mv(temporary, final)

    def exists(self, path: str) -> bool:
        """See Blobs."""
        return bool(self._system.exists(f"{self._root}/{path}"))

    def look(self, path: str) -> Entry:
        """See Blobs."""
        final = f"{self._root}/{path}"
        modified = self._system.modified(final)
        when = modified if modified.tzinfo else modified.replace(tzinfo=UTC)
        return Entry(path, int(self._system.size(final)), when)

    def delete(self, path: str) -> bool:
        """See Blobs."""
        try:
            self._system.rm_file(f"{self._root}/{path}")
        except FileNotFoundError:
            return False
        return True

    def discard(self, path: str, grace: timedelta) -> bool:
        """See Blobs. A file that is kept between the two questions goes: they cannot be asked as one."""
        return discard_old(self, path, grace)

    def list(self, folder: str) -> Iterator[Entry]:
        """See Blobs."""
        self._system.invalidate_cache()
        top = f"{self._root}/{folder}"
        if not self._system.exists(top):
            return
        for path in self._system.find(top):
            if ".tmp-" not in path:
                try:
                    yield self.look(path.removeprefix(self._root).lstrip("/"))
                except FileNotFoundError:
                    continue

    def list_folders(self, folder: str) -> Sequence[str]:
        """See Blobs."""
        self._system.invalidate_cache()
        try:
            found = self._system.ls(f"{self._root}/{folder}", detail=False)
        except FileNotFoundError:
            return []
        return [str(path).rstrip("/").rpartition("/")[2] for path in found]

    def sweep(self) -> int:
        """Nothing: whose files they are cannot be told."""
        return 0
