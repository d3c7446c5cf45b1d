"""Blobs in a bucket: S3 and what speaks like it, Google, Azure."""

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from maskloop_learner.pool.blobs import Entry, StoreDown, StoreError, discard_old

SCHEMES = {"s3", "s3a", "gs", "az", "abfs", "abfss"}
"""That obstore serves: one small library, where fsspec's own for S3 pin another's version by version."""
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
LIMITS: dict[str, Any] = {
    "retry_config": {"max_retries": 6, "retry_timeout": timedelta(seconds=30)},
    "client_options": {"connect_timeout": "5s", "timeout": "60s"},
}
"""An answer of 5xx and a lost connection are tried again, but nobody waits for minutes."""


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

    def keep(self, path: str, data: bytes) -> None:
        """See Blobs. No look before: it would cost another trip, a damaged blob is mended, and it counts as new."""
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

    def look(self, path: str) -> Entry:
        """See Blobs."""
        with self._explained(f"to find {path}"):
            found = self._obstore.head(self._store, path)
        return Entry(path, found["size"], found["last_modified"])

    def delete(self, path: str) -> bool:
        """See Blobs."""
        if not self.exists(path):
            return False
        try:
            with self._explained(f"to delete {path}"):
                self._obstore.delete(self._store, path)
        except FileNotFoundError:
            return False
        return True

    def discard(self, path: str, grace: timedelta) -> bool:
        """See Blobs. A file that is kept between the two questions goes: buckets cannot tell."""
        return discard_old(self, path, grace)

    def list(self, folder: str) -> Iterator[Entry]:
        """See Blobs."""
        with self._explained(f"to list {folder}"):
            for chunk in self._obstore.list(self._store, prefix=folder):
                for item in chunk:
                    yield Entry(item["path"], item["size"], item["last_modified"])

    def list_folders(self, folder: str) -> Sequence[str]:
        """See Blobs."""
        with self._explained(f"to list {folder}"):
            found = self._obstore.list_with_delimiter(self._store, prefix=folder)
        return [path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"]]

    def sweep(self) -> int:
        """Nothing: an upload that was cut off is never seen; rules of the bucket clean up behind it."""
        return 0
