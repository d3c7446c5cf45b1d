"""A copy of the pool's database, consistent while everything runs, and the way back; SQLite and PostgreSQL."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import URL, Engine, inspect
from sqlalchemy.orm import Session

from maskloop_backend.backup.content import BackupError
from maskloop_learner.pool.database import create_pool_engine

SUFFIX = {"sqlite": "db", "postgresql": "dump"}


@contextmanager
def copy_database(engine: Engine, path: Path) -> Iterator[Session]:
    """Write a copy of the database to `path`; yields a session that sees exactly what the copy holds."""
    if engine.dialect.name == "sqlite":
        with _copy_sqlite(engine, path) as session:
            yield session
    elif engine.dialect.name == "postgresql":
        with _copy_postgresql(engine, path) as session:
            yield session
    else:
        raise BackupError(f"a {engine.dialect.name} database is not backed up by Maskloop; use the server's own tools")


@contextmanager
def _copy_sqlite(engine: Engine, path: Path) -> Iterator[Session]:
    with (
        closing(sqlite3.connect(str(engine.url.database), timeout=30.0)) as live,
        closing(sqlite3.connect(path)) as copy,
    ):
        # In one step: writers go on meanwhile, and the copy is of one moment.
        live.backup(copy)
        (said,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise BackupError(f"the pool's database is damaged ({said}); restore the last backup that is whole")
    path.chmod(0o600)
    reading = create_pool_engine(f"sqlite:///{path}")
    try:
        with Session(reading) as session:
            yield session
    finally:
        reading.dispose()
        # One file again, without the log beside it.
        settle_sqlite(path)


def settle_sqlite(path: Path) -> None:
    """Take what lies in the write-ahead log into the file itself, and the log away."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()


@contextmanager
def _copy_postgresql(engine: Engine, path: Path) -> Iterator[Session]:
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        # The dump and the session see the same moment, whatever is written meanwhile.
        snapshot = connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one()
        run_tool(
            engine.url,
            "pg_dump",
            "--format=custom",
            "--no-owner",
            "--no-acl",
            f"--snapshot={snapshot}",
            f"--file={path}",
        )
        path.chmod(0o600)
        with Session(connection) as session:
            yield session


def restore_postgresql(engine: Engine, path: Path) -> None:
    """Bring a dump into an empty database, all or nothing. BackupError when it is not empty."""
    if tables := inspect(engine).get_table_names():
        raise BackupError(
            f"the database {engine.url.render_as_string(hide_password=True)} is not empty ({', '.join(tables[:3])}..); "
            "create a new one and name it in MASKLOOP_DATABASE_URL"
        )
    run_tool(engine.url, "pg_restore", "--no-owner", "--no-acl", "--single-transaction", "--exit-on-error", str(path))


def run_tool(url: URL, name: str, *words: str) -> None:
    """Run one of PostgreSQL's own programs on a database. BackupError when it is missing or fails."""
    program = shutil.which(name)
    if program is None:
        raise BackupError(f"`{name}` is not installed; install PostgreSQL's client programs, no older than the server")
    # The password goes by the environment: a command line can be read by every user.
    shown = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
    env = dict(os.environ) | ({"PGPASSWORD": url.password} if url.password else {})
    command = [program, "--no-password", f"--dbname={shown.render_as_string()}", *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BackupError(f"`{name}` failed: {done.stderr.strip()[-500:]}")
