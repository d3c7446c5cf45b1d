"""Where a store's blobs lie: a folder, a bucket, or any other file system that fsspec knows."""

import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

import fsspec

BUCKETS = {"s3", "s3a", "gs", "az", "abfs", "abfss"}
"""Schemes that obstore serves: one small library, where fsspec's own for S3 pin another's version by version."""
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
LIMITS: dict[str, Any] = {
    "retry_config": {"max_retries": 6, "retry_timeout": timedelta(seconds=30)},
    "client_options": {"connect_timeout": "5s", "timeout": "60s"},
}
"""An answer of 5xx and a lost connection are tried again, but nobody waits for minutes."""


class StoreError(RuntimeError):
    """A blob is missing from the store or is not what its digest says."""


class StoreDown(StoreError):
    """The store cannot be asked now; later it may."""


class Entry(NamedTuple):
    """One file of a store."""

    path: str
    size: int
    """Bytes."""
    modified: datetime


class Blobs(Protocol):
    """Files by their path below a root; each is seen whole or not at all."""

    def read(self, path: str) -> bytes:
        """All bytes. Raises FileNotFoundError, and StoreDown."""

    def write(self, path: str, data: bytes) -> None:
        """Make or replace a file. Raises StoreDown, and OSError where a disk is full."""

    def exists(self, path: str) -> bool:
        """Whether it is there. Raises StoreDown."""

    def delete(self, path: str) -> None:
        """Remove it; harmless when it is gone. Raises StoreDown."""

    def list(self, folder: str) -> Iterator[Entry]:
        """All files below a folder, in no order. Raises StoreDown."""

    def sweep(self) -> int:
        """Delete what killed writers left behind; return how many files."""


def open_blobs(url: str, options: Mapping[str, Any]) -> Blobs:
    """The place that `url` names. `options` are keywords of its library. Raises StoreError when it cannot be used."""
    scheme = urlsplit(url).scheme
    if scheme in BUCKETS:
        return Bucket(url, options)
    try:
        system, root = fsspec.core.url_to_fs(url, **options)
    except (ValueError, ImportError, TypeError) as error:
        raise StoreError(f"MASKLOOP_STORE_URL {url!r} cannot be opened: {error}") from error
    protocol = system.protocol
    local = "file" in ((protocol,) if isinstance(protocol, str) else protocol)
    return Folder(root) if local else FileSystem(url, system, root)


class Folder:
    """A folder of this machine."""

    def __init__(self, root: str) -> None:
        self.root = root

    def read(self, path: str) -> bytes:
        """See Blobs."""
        with open(f"{self.root}/{path}", "rb") as file:
            return file.read()

    def write(self, path: str, data: bytes) -> None:
        """See Blobs."""
        final = f"{self.root}/{path}"
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

    def delete(self, path: str) -> None:
        """See Blobs."""
        try:
            os.unlink(f"{self.root}/{path}")
        except FileNotFoundError:
            return

    def list(self, folder: str) -> Iterator[Entry]:
        """See Blobs. What a writer has not finished is left out."""
        for directory, _, names in os.walk(f"{self.root}/{folder}"):
            for name in names:
                path = os.path.join(directory, name)
                if ".tmp-" in name:
                    continue
                try:
                    found = os.stat(path)
                except FileNotFoundError:
                    continue
                relative = os.path.relpath(path, self.root)
                yield Entry(relative, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

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


class Bucket:
    """A bucket of S3 or what speaks like it, of Google or Azure. Keys come from the options or the environment."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        if importlib.util.find_spec("obstore") is None:
            raise StoreError(f"MASKLOOP_STORE_URL names a bucket, {url!r}: pip install 'maskloop[s3]'")
        import obstore
        from obstore.exceptions import BaseError
        from obstore.store import from_url

        make: Any = from_url  # its overloads tell the schemes apart, which we do not
        self.url, self._obstore, self._error = url, obstore, BaseError
        endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
        config = {**({"endpoint": endpoint} if endpoint and url.startswith("s3") else {}), **options}
        client = dict(LIMITS["client_options"])
        if any(isinstance(value, str) and value.startswith("http://") for value in config.values()):
            client["allow_http"] = True
        try:
            self._store: Any = make(url, config=config, client_options=client, retry_config=LIMITS["retry_config"])
        except (BaseError, ValueError, TypeError) as error:
            said = " ".join(str(error).partition("Debug source:")[0].split())
            raise StoreError(f"the store {url} cannot be opened: {said}") from error

    @contextmanager
    def _explained(self, doing: str, *, may_miss: bool = True) -> Iterator[None]:
        try:
            yield
        except (self._error, OSError) as error:
            said = " ".join(str(error).partition("Debug source:")[0].split())
            # A bucket that is not there says nothing of its blobs.
            if may_miss and isinstance(error, FileNotFoundError) and "NoSuchBucket" not in said:
                raise
            fix = "is the server up, and are MASKLOOP_STORE_URL and the bucket's keys right?"
            raise StoreDown(f"the store {self.url} fails {doing}: {said[:500]}; {fix}") from error

    def read(self, path: str) -> bytes:
        """See Blobs."""
        with self._explained(f"to give {path}"):
            return bytes(self._obstore.get(self._store, path).bytes())

    def write(self, path: str, data: bytes) -> None:
        """See Blobs. No look before: it would cost another trip, and a damaged blob is mended."""
        with self._explained(f"to take {path}", may_miss=False):
            self._obstore.put(self._store, path, data)

    def exists(self, path: str) -> bool:
        """See Blobs."""
        try:
            with self._explained(f"to find {path}"):
                self._obstore.head(self._store, path)
        except FileNotFoundError:
            return False
        return True

    def delete(self, path: str) -> None:
        """See Blobs."""
        try:
            with self._explained(f"to delete {path}"):
                self._obstore.delete(self._store, path)
        except FileNotFoundError:
            return

    def list(self, folder: str) -> Iterator[Entry]:
        """See Blobs."""
        with self._explained(f"to list {folder}"):
            for chunk in self._obstore.list(self._store, prefix=folder):
                for item in chunk:
                    yield Entry(item["path"], item["size"], item["last_modified"])

    def sweep(self) -> int:
        """Nothing: an upload that was cut off is never seen; rules of the bucket clean up behind it."""
        return 0


class FileSystem:
    """Anything else that fsspec opens."""

    def __init__(self, url: str, system: Any, root: str) -> None:
        self.url, self._system, self._root = url, system, root

    def read(self, path: str) -> bytes:
        """See Blobs."""
        return bytes(self._system.cat_file(f"{self._root}/{path}"))

    def write(self, path: str, data: bytes) -> None:
        """See Blobs."""
        final = f"{self._root}/{path}"
        self._system.makedirs(final.rpartition("/")[0], exist_ok=True)
        temporary = f"{final}.tmp-{uuid4().hex[:8]}"
        self._system.pipe_file(temporary, data)
        self._system.mv(temporary, final)

    def exists(self, path: str) -> bool:
        """See Blobs."""
        return bool(self._system.exists(f"{self._root}/{path}"))

    def delete(self, path: str) -> None:
        """See Blobs."""
        try:
            self._system.rm_file(f"{self._root}/{path}")
        except FileNotFoundError:
            return

    def list(self, folder: str) -> Iterator[Entry]:
        """See Blobs."""
        top = f"{self._root}/{folder}"
        if not self._system.exists(top):
            return
        for path in self._system.find(top):
            if ".tmp-" not in path:
                modified = self._system.modified(path)
                when = modified if modified.tzinfo else modified.replace(tzinfo=UTC)
                yield Entry(path.removeprefix(self._root).lstrip("/"), self._system.size(path), when)

    def sweep(self) -> int:
        """Nothing: whose files they are cannot be told."""
        return 0
