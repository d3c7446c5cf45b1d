"""`maskloop backup`: everything that cannot be had again, while everything runs."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from maskloop_backend.backup.content import CREDENTIALS, LAST_BACKUP, BackupError, Manifest, blob_name
from maskloop_backend.backup.databases import SUFFIX, copy_database
from maskloop_backend.backup.writers import Writer, hash_file, open_writer
from maskloop_learner.pool.database import release, revision_of
from maskloop_learner.pool.events import record
from maskloop_learner.pool.garbage import SLICES
from maskloop_learner.pool.holds import hold_store
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.references import KINDS, find_references, find_rows_references
from maskloop_learner.pool.schema import Cursor, utcnow
from maskloop_learner.pool.store import BlobError, Kind
from maskloop_learner.settings import Settings

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What a backup came to."""

    path: str
    revision: str
    blobs: int
    copied: int
    """Blobs that were not there from an earlier backup."""
    bytes: int
    """Of what was written."""
    missing: list[str]
    """Blobs that the store has lost."""
    credentials: bool
    seconds: float


def save(
    settings: Settings,
    target: Path,
    *,
    credentials: bool = True,
    backbones: bool = False,
    on_progress: Progress = lambda done, of: None,
) -> Saved:
    """Write a backup to a folder, or to a file that ends in .tar. `on_progress`: slices of the store done, and all.

    The database is copied first, then every blob that the copy refers to; blobs are never changed, and none is
    removed meanwhile. Raises BackupError.
    """
    started = time.monotonic()
    target = target.expanduser().absolute()
    if target.is_relative_to(settings.home):
        raise BackupError(f"{target} lies in the home folder {settings.home} and would be lost with it; choose another")
    pool = Pool.open(settings)
    try:
        with hold_store(pool, f"backup-{uuid4().hex[:8]}") as renew, open_writer(target) as writer:
            saver = _Saver(pool, settings, writer, renew)
            saver.save_store(on_progress)
            saver.save_home(CREDENTIALS if credentials else ())
            if backbones:
                saver.save_folder(settings.bases_folder, "backbones")
            writer.finish(saver.manifest)
        with pool.write() as session:
            session.merge(Cursor(name=LAST_BACKUP, position=int(time.time())))
            data = {"blobs": saver.manifest.blob_count, "bytes": saver.bytes, "missing": len(saver.manifest.missing)}
            record(session, "backup.made", data=data)
    finally:
        pool.close()
    return Saved(
        path=str(target),
        revision=saver.manifest.revision,
        blobs=saver.manifest.blob_count,
        copied=saver.copied,
        bytes=saver.bytes,
        missing=saver.manifest.missing,
        credentials=credentials,
        seconds=round(time.monotonic() - started, 2),
    )


class _Saver:
    def __init__(self, pool: Pool, settings: Settings, writer: Writer, renew: Callable[[], None]) -> None:
        self.pool, self.settings, self.writer, self.renew = pool, settings, writer, renew
        with pool.engine.connect() as connection:
            revision = revision_of(connection) or ""
        kind = pool.engine.dialect.name
        self.manifest = Manifest(release(), revision, kind, utcnow().isoformat(timespec="seconds"))
        self.copied = self.bytes = 0

    def save_store(self, on_progress: Progress) -> None:
        """The database, then the blobs that it refers to, slice by slice of their digests."""
        copy = self.writer.scratch / "database"
        with copy_database(self.pool.engine, copy) as session:
            for number, prefix in enumerate(SLICES):
                on_progress(number, len(SLICES))
                there = {kind: set(self.pool.store.list_blobs(kind, prefix)) for kind in KINDS}
                wanted = find_references(session, self.pool.store, prefix=prefix, lenient=True)
                for kind, digests in find_rows_references(session, prefix=prefix).items():
                    self.manifest.missing += [f"{kind}/{digest}" for digest in sorted(digests - there[kind])]
                for kind in KINDS:
                    for digest in sorted(wanted[kind] & there[kind]):
                        self._save_blob(kind, digest)
        on_progress(len(SLICES), len(SLICES))
        self._note(f"database-{hash_file(copy).sha256[:12]}.{SUFFIX[self.manifest.database]}", copy)

    def save_home(self, secret: tuple[str, ...]) -> None:
        """Small files of the home folder."""
        names = [*secret, *(f"imports/{path.name}" for path in (self.settings.home / "imports").glob("*.json"))]
        for name in names:
            if (self.settings.home / name).is_file():
                self._note(f"home/{name}", self.settings.home / name)

    def save_folder(self, folder: Path, name: str) -> None:
        """All files below a folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.renew()
                self._note(f"{name}/{path.relative_to(folder).as_posix()}", path)

    def _save_blob(self, kind: Kind, digest: str) -> None:
        self.renew()
        name = blob_name(kind, digest)
        if not self.writer.has(name, digest):
            try:
                data = self.pool.store.get(kind, digest)
            except BlobError:
                # Lost before: a backup of all the rest is what helps now.
                self.manifest.missing.append(f"{kind}/{digest}")
                return
            self.writer.add_bytes(name, data)
            self.copied += 1
            self.bytes += len(data)
        self.manifest.blobs[kind].append(digest)

    def _note(self, name: str, path: Path) -> None:
        entry = self.writer.add_file(name, path)
        self.manifest.files[name] = entry
        self.bytes += entry.size
