"""Where a store's blobs lie: what a place of files must do, and how it fails."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol


class StoreError(RuntimeError):
    """The store cannot be used, or has not what it should have."""


class BlobError(StoreError):
    """The store answers, and the blob is missing or is not what its digest says."""


class StoreDown(StoreError):
    """The store cannot be asked now; later it may."""


class Entry(NamedTuple):
    """One file of a store."""

    path: str
    size: int
    """Bytes."""
    modified: datetime
    """When it was written last, by the clock of the store."""

    @property
    def age(self) -> timedelta:
        """How long ago that was."""
        return datetime.now(UTC) - self.modified


class Blobs(Protocol):
    """Files by their path below a root; each is seen whole or not at all."""

    def read(self, path: str) -> bytes:
        """All bytes. Raises FileNotFoundError, and StoreDown."""

    def keep(self, path: str, data: bytes) -> None:
        """See that the file is there with these bytes, and counts as new. Raises StoreDown, OSError of a full disk."""

    def exists(self, path: str) -> bool:
        """Whether it is there. Raises StoreDown."""

    def look(self, path: str) -> Entry:
        """Its size and age. Raises FileNotFoundError, and StoreDown."""

    def delete(self, path: str) -> bool:
        """Remove it; return whether it was there. Raises StoreDown."""

    def discard(self, path: str, grace: timedelta) -> bool:
        """Remove it unless it was kept within `grace`; return whether it is gone. Raises StoreDown."""

    def list(self, folder: str) -> Iterator[Entry]:
        """All files below a folder, in no order. Raises StoreDown."""

    def list_folders(self, folder: str) -> Sequence[str]:
        """Names of the folders right below a folder, in no order. Raises StoreDown."""

    def sweep(self) -> int:
        """Delete what killed writers left behind; return how many files."""


def discard_old(blobs: Blobs, path: str, grace: timedelta) -> bool:
    """`Blobs.discard` by two questions: what is kept between them goes."""
    try:
        return blobs.look(path).age >= grace and blobs.delete(path)
    except FileNotFoundError:
        return False
