"""Engines of the pool's database: SQLite made safe for several processes, or PostgreSQL for several hosts."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, column, create_engine, event, insert, make_url, select, table
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from maskloop_learner.pool.postgres import DriverMissing, create_postgres_engine, is_postgres
from maskloop_learner.pool.schema import Event

NETWORK_FILE_SYSTEMS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "fuse.sshfs",
    "glusterfs",
    "lustre",
    "ceph",
}
KEY_CHECK = "PRAGMA foreign_key_check"
MIGRATIONS = Path(__file__).with_name("migrations")
MIGRATED = "pool.migrated"
WANTED = "must look like postgresql://user:password@host:5432/database or sqlite:////path/to/file.db"
# NaN is no JSON: PostgreSQL refuses it, and on SQLite it would turn up where it is read.
_dumps = partial(json.dumps, allow_nan=False)


class DatabaseError(RuntimeError):
    """The pool's database cannot be used as it is set up."""


class DatabaseDown(DatabaseError):
    """The database server does not answer; later it may."""


def reason_of(error: DBAPIError) -> str:
    """What the database said, in one line; drivers write several."""
    return " ".join(str(error.orig).split())


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system that holds `path`, read off the text of /proc/mounts; "" when unknown."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        mount = fields[1].replace("\\040", " ")
        if path.is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, fields[2]
    return kind


def refuse_network_file_system(path: Path) -> None:
    """Raise DatabaseError when SQLite would live on a network file system, where its locks do not hold."""
    mounts = Path("/proc/mounts")
    kind = file_system_of(path.absolute(), mounts.read_text()) if mounts.exists() else ""
    if kind in NETWORK_FILE_SYSTEMS:
        raise DatabaseError(
            f"the pool's SQLite file {path} lies on a network file system ({kind}), where its locks do not hold; "
            "set MASKLOOP_HOME to a local disk or MASKLOOP_DATABASE_URL to a PostgreSQL server"
        )


def create_pool_engine(url: str) -> Engine:
    """An engine for `url`; SQLite gets WAL, a busy time-out and `BEGIN IMMEDIATE` for transactions that write.

    Raises DatabaseError for a URL that cannot be used, and says why. A PostgreSQL server is not asked yet.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        # The URL may hold a password: it is not repeated.
        raise DatabaseError(f"MASKLOOP_DATABASE_URL {WANTED}") from error
    if is_postgres(parsed):
        try:
            return create_postgres_engine(parsed, json_serializer=_dumps)
        except DriverMissing as error:
            raise DatabaseError(str(error)) from error
    if parsed.get_backend_name() != "sqlite":
        raise DatabaseError(f"MASKLOOP_DATABASE_URL names a {parsed.drivername!r} database; it {WANTED}")
    if not parsed.database or parsed.database == ":memory:":
        raise DatabaseError(f"the pool needs a file that several processes can open, got {url!r}")
    path = Path(parsed.database)
    path.parent.mkdir(parents=True, exist_ok=True)
    refuse_network_file_system(path)
    arguments = {"timeout": 30.0, "check_same_thread": False}
    engine = create_engine(parsed, connect_args=arguments, json_serializer=_dumps)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        # The driver must not open transactions by itself: `begin` below says which kind.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A reader that upgrades to writing would fail at once with "database is locked": writers say so first.
        writing = connection.get_execution_options().get("maskloop_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def migrate(engine: Engine, *, revision: str = "head") -> None:
    """Bring the database to `revision`; several processes, on several hosts, may call this at once.

    An upgrade is one transaction: one that was killed is made by the next call. Raises DatabaseDown when the server
    cannot be reached, DatabaseError when a newer release has upgraded the pool.
    """
    config = _alembic_config()
    with _connect(engine) as connection, _unchecked_keys(connection), connection.begin():
        before = _known_revision(connection, config)
        attributes: dict[str, Any] = config.attributes
        attributes["connection"] = connection
        command.upgrade(config, revision)
        after = revision_of(connection)
        if before is not None and before != after:
            data = {"from": before, "to": after, "release": release()}
            connection.execute(insert(Event).values(kind=MIGRATED, data=data))
        if engine.dialect.name == "sqlite" and (broken := connection.exec_driver_sql(KEY_CHECK).fetchall()):
            raise DatabaseError(f"the pool refers to rows that are not there: {broken[:5]}; restore a backup")


def release() -> str:
    """The release of Maskloop that runs; "unknown" where it runs without being installed."""
    try:
        return version("maskloop")
    except PackageNotFoundError:
        return "unknown"


def revisions() -> list[str]:
    """All revisions of the pool's schema that this release knows, the oldest first."""
    scripts = ScriptDirectory.from_config(_alembic_config()).walk_revisions()
    return [script.revision for script in scripts][::-1]


def revision_of(connection: Connection) -> str | None:
    """The revision of a pool's schema; None where there is none yet."""
    return MigrationContext.configure(connection).get_current_revision()


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _known_revision(connection: Connection, config: Config) -> str | None:
    found = revision_of(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is None or found in known:
        return found
    # Of the events' table no release changes these columns.
    events = table("events", column("id"), column("kind"), column("data"))
    told = connection.scalar(select(events.c.data).where(events.c.kind == MIGRATED).order_by(events.c.id.desc()))
    data = json.loads(told) if isinstance(told, str) else told or {}
    newer = f"Maskloop {data['release']}" if data.get("to") == found else "a newer release of Maskloop"
    raise DatabaseError(
        f"the pool's schema is at revision {found!r}, which this release ({release()}) does not know: {newer} has "
        "upgraded it; install that one on this machine, or restore a backup from before with `maskloop restore`"
    )


def _connect(engine: Engine) -> Connection:
    try:
        return engine.connect().execution_options(maskloop_write=True)
    except OperationalError as error:
        if engine.dialect.name != "postgresql":
            raise
        raise DatabaseDown(
            f"the pool's database {engine.url.render_as_string()} cannot be reached: {reason_of(error)}; "
            "is the server running, and MASKLOOP_DATABASE_URL right?"
        ) from error


@contextmanager
def _unchecked_keys(connection: Connection) -> Iterator[None]:
    """SQLite changes a table by copying it and dropping the old one, which its foreign keys would forbid.

    It heeds this pragma outside a transaction only.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    driver = connection.connection.driver_connection
    if driver is None:
        raise DatabaseError("the pool's database closed the connection; try again")
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")
