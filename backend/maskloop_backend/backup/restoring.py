"""`maskloop restore`: a backup into an empty home folder, whole or not at all."""

import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from maskloop_backend.backup.content import BackupError, Manifest
from maskloop_backend.backup.databases import restore_postgresql, settle_sqlite
from maskloop_backend.backup.readers import Reader
from maskloop_backend.supervisor import hold_home
from maskloop_learner.pool.database import create_pool_engine, migrate, release, revisions
from maskloop_learner.pool.events import record
from maskloop_learner.pool.holds import PREFIX
from maskloop_learner.pool.pool import UNFINISHED
from maskloop_learner.pool.schema import Cursor, Project, Round, utcnow
from maskloop_learner.pool.store import Kind, Store
from maskloop_learner.settings import Settings

STAGE = ".restore"
_PLACED = ("maskloop.db", "maskloop.db-wal", "maskloop.db-shm", "store", "backbones", "imports", STAGE)
_PLACED_SECRETS = ("credentials.json", "labelstudio.json")
_IGNORED = {UNFINISHED, f"{UNFINISHED}.half", "maskloop.lock", "lost+found"}
Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Restored:
    """What came back."""

    home: str
    manifest: Manifest
    revision: str
    """Of the schema now."""
    projects: list[tuple[int, str]]
    """Number in Label Studio and address of each project."""
    credentials: bool
    """Whether password and tokens came back too."""


def check(source: Path, *, on_progress: Tick = lambda done, of: None) -> Manifest:
    """Read a whole backup and compare every file with its digest. Raises BackupError."""
    reader = Reader(source)
    reader.check(tick=_counter(reader.manifest, on_progress))
    return reader.manifest


def restore(source: Path, settings: Settings, *, on_progress: Tick = lambda done, of: None) -> Restored:
    """Bring a backup into the empty home folder of `settings`, and its schema to this release.

    All files are checked first. A restore that was killed leaves a home that nothing starts in; the next one begins
    anew. Label Studio is compared in full afterwards. Raises BackupError, and HomeBusy while Maskloop runs there.
    """
    home = settings.home
    reader = Reader(source.expanduser().absolute())
    _check_fit(reader.manifest, settings)
    with hold_home(home):
        _claim(home, reader.path)
        reader.check(tick=_counter(reader.manifest, lambda done, of: on_progress(done, 2 * of)))
        stage = home / STAGE
        stage.mkdir(mode=0o700)
        store = Store(settings.store_url, settings.resolved_store_options) if settings.store_url else None
        total = len(reader.manifest.names)
        done = _counter(reader.manifest, lambda number, of: on_progress(total + number, 2 * of))
        reader.copy(lambda name: _open(stage, name, store), tick=done)
        os.sync()
        found = _place(stage, home, reader.manifest, settings)
        shutil.rmtree(stage)
        (home / UNFINISHED).unlink()
    return found


def _check_fit(manifest: Manifest, settings: Settings) -> None:
    if manifest.revision not in revisions():
        raise BackupError(
            f"the backup's schema is at revision {manifest.revision!r}, which this release ({release()}) does not "
            f"know; restore it with Maskloop {manifest.release}, which made it, or a later one"
        )
    wanted = "sqlite" if settings.resolved_database_url.startswith("sqlite") else "postgresql"
    if manifest.database != wanted:
        cure = "unset MASKLOOP_DATABASE_URL" if manifest.database == "sqlite" else "name one in MASKLOOP_DATABASE_URL"
        raise BackupError(f"the backup holds a {manifest.database} database, the settings name {wanted}; {cure}")
    if manifest.database == "sqlite" and settings.database_url:
        raise BackupError("a SQLite backup goes into the home folder; unset MASKLOOP_DATABASE_URL for the restore")


def _claim(home: Path, source: Path) -> None:
    """Take an empty home, or one that an earlier restore left unfinished."""
    marker = home / UNFINISHED
    if marker.exists():
        for name in (*_PLACED, *_PLACED_SECRETS):
            path = home / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    others = sorted({path.name for path in home.iterdir()} - _IGNORED)
    if others:
        raise BackupError(
            f"the home folder {home} is not empty ({', '.join(others[:5])}); a restore never overwrites: "
            "move it away, or name an empty one in MASKLOOP_HOME"
        )
    half = home / f"{UNFINISHED}.half"
    half.write_text(json.dumps({"from": str(source), "at": utcnow().isoformat()}) + "\n")
    os.replace(half, marker)


def _open(stage: Path, name: str, store: Store | None) -> IO[bytes]:
    parts = name.split("/")
    if parts[0] == "store" and store is not None:
        return _IntoStore(store, parts[1])  # type: ignore[arg-type]
    path = stage / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


class _IntoStore(io.BytesIO):
    """A blob on its way into a store elsewhere."""

    def __init__(self, store: Store, kind: Kind) -> None:
        super().__init__()
        self._store, self._kind = store, kind

    def close(self) -> None:
        if not self.closed:
            self._store.put(self._kind, self.getvalue())
        super().close()


def _place(stage: Path, home: Path, manifest: Manifest, settings: Settings) -> Restored:
    """Give every staged file its place; the database comes last."""
    staged = stage / next(name for name in manifest.files if name.startswith("database-"))
    sqlite = manifest.database == "sqlite"
    engine = create_pool_engine(f"sqlite:///{staged}" if sqlite else settings.resolved_database_url)
    try:
        if not sqlite:
            restore_postgresql(engine, staged)
        migrate(engine)
        projects = _begin_anew(engine, manifest)
    finally:
        engine.dispose()
    own = stage / "home"
    if not settings.store_url:
        (stage / "store").mkdir(mode=0o700, exist_ok=True)
    moves = [*(own.iterdir() if own.exists() else ()), stage / "store", stage / "backbones"]
    for path in moves:
        if path.exists():
            os.replace(path, home / path.name)
    if sqlite:
        settle_sqlite(staged)
        os.replace(staged, home / "maskloop.db")
    secrets = all((home / name).exists() for name in _PLACED_SECRETS)
    return Restored(str(home), manifest, revisions()[-1], projects, secrets)


def _begin_anew(engine: Engine, manifest: Manifest) -> list[tuple[int, str]]:
    """Have `sync` compare all with Label Studio, and forget what lived in the processes of then."""
    with (
        engine.connect().execution_options(maskloop_write=True) as connection,
        Session(connection) as session,
        session.begin(),
    ):
        session.execute(update(Project).values(synced_at=None, checked_at=None, looked_at=None, sync_error=None))
        session.execute(update(Round).values(holder=None, held_until=None))
        session.execute(delete(Cursor).where(Cursor.name.startswith(PREFIX)))
        data = {"made_at": manifest.created_at, "release": manifest.release, "revision": manifest.revision}
        record(session, "pool.restored", data=data)
        rows = session.execute(select(Project.ls_id, Project.ls_url).order_by(Project.id))
        return [(ls_id, url) for ls_id, url in rows]


def _counter(manifest: Manifest, on_progress: Tick) -> Callable[[], None]:
    done, total = 0, len(manifest.names)

    def tick() -> None:
        nonlocal done
        done += 1
        on_progress(done, total)

    return tick
