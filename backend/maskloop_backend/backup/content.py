"""What a backup is made of, and the manifest that names all of it. Written last: without it there is no backup."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from maskloop_learner.pool.references import KINDS
from maskloop_learner.pool.store import Kind

FORMAT = 1
MANIFEST = "manifest.json"
CREDENTIALS = ("credentials.json", "labelstudio.json")
"""Of the home folder: the web process's password, and the tokens of Label Studio."""
LAST_BACKUP = "backup"
"""Name of the cursor in the pool that holds the Unix time of the last backup."""
_BLOB = re.compile(r"store/(images|masks|maps|weights|manifests)/([0-9a-f]{2})/(\2[0-9a-f]{62})")
_FILE = re.compile(r"(database-[0-9a-f]{12}\.(db|dump))|home/[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?|backbones/[^/\0][^\0]*")


class BackupError(RuntimeError):
    """A backup cannot be made, read or restored; the message says why and what to do."""


@dataclass(frozen=True)
class Entry:
    """A file of a backup that is no blob."""

    sha256: str
    size: int


@dataclass
class Manifest:
    """All that a backup holds."""

    release: str
    revision: str
    """Of the pool's schema."""
    database: str
    """sqlite or postgresql."""
    created_at: str
    files: dict[str, Entry] = field(default_factory=dict)
    blobs: dict[Kind, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    """Kind -> digests."""
    missing: list[str] = field(default_factory=list)
    """Blobs that the pool refers to and that the store had lost when the backup was made."""
    format: int = FORMAT

    @property
    def blob_count(self) -> int:
        """All blobs."""
        return sum(map(len, self.blobs.values()))

    @property
    def names(self) -> set[str]:
        """Paths of all files within the backup, but for the manifest."""
        return set(self.files) | {blob_name(kind, digest) for kind, digests in self.blobs.items() for digest in digests}

    def to_bytes(self) -> bytes:
        """As it is written."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> "Manifest":
        """Read a manifest. BackupError when it is damaged, of a later format, or names files outside the backup."""
        try:
            read: dict[str, Any] = json.loads(data)
            number = read["format"]
            if number != FORMAT:
                raise BackupError(
                    f"{where} has format {number!r}, this release reads {FORMAT}; restore it with the release that "
                    f"made it ({read.get('release', 'unknown')})"
                )
            read["files"] = {name: Entry(**entry) for name, entry in read["files"].items()}
            manifest = cls(**read)
            names = manifest.names
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackupError(f"{where}: its {MANIFEST} is damaged ({error}); take another backup") from error
        for name in names:
            if (not _FILE.fullmatch(name) and not _BLOB.fullmatch(name)) or ".." in PurePosixPath(name).parts:
                raise BackupError(f"{where} names {name!r}, which is no file of a backup; it was not made by Maskloop")
        return manifest


def blob_name(kind: Kind, digest: str) -> str:
    """Where a blob lies within a backup."""
    return f"store/{kind}/{digest[:2]}/{digest}"
