"""A real PostgreSQL server of the tests' own, and a fresh database in it for each test."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from maskloop_learner.pool.database import create_pool_engine, migrate
from maskloop_learner.pool.schema import Base
from maskloop_learner.settings import Settings

PASSWORD = "a-password-that-no-message-shows"
BOTH = {
    "test_batches",
    "test_figures",
    "test_garbage",
    "test_groups",
    "test_ordering",
    "test_pool",
    "test_pushes",
    "test_ranking",
    "test_registry",
    "test_rounds",
    "test_shadow",
    "test_sync",
    "test_triggers",
    "test_typed_prompts",
}
"""Test modules whose pool is SQLite among the quick tests and PostgreSQL among the slow ones."""
_START_SECONDS = 30.0


def find_programs() -> Path | None:
    """The folder with initdb and postgres: on PATH, or where Debian keeps them, the newest first."""
    on_path = shutil.which("postgres")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Postgres:
    """A server on a free port of loopback; tests may kill it and start it again."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.data, self.log = programs, folder / "data", folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        # The server refuses to run as root.
        self.user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self.user:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        secret = folder / "password"
        secret.write_text(PASSWORD)
        options = ["--auth=scram-sha-256", "--username=maskloop", f"--pwfile={secret}", "--no-sync", "--encoding=UTF8"]
        subprocess.run(
            [str(programs / "initdb"), "-D", str(self.data), *options, "--locale=C.UTF-8"],
            check=True,
            stdout=subprocess.DEVNULL,
            **self._who(),
        )
        with open(self.data / "postgresql.conf", "a") as file:
            file.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
                "fsync = off\nfull_page_writes = off\nmax_connections = 60\n"
                "shared_buffers = 32MB\n"
            )

    def _who(self) -> dict[str, Any]:
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "cwd": "/"} if self.user else {}

    def url(self, database: str, *, password: str = PASSWORD) -> str:
        """SQLAlchemy's address of a database, as an operator writes it."""
        return f"postgresql://maskloop:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", str(self.data)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._who(),
            )
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"PostgreSQL did not start: {self.log.read_text()[-2000:]}") from None
                time.sleep(0.1)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: cut all connections and end; SIGKILL: as the power does, with every backend."""
        if self.process is None:
            return
        if number == signal.SIGKILL:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        self.process.wait(20)
        self.process = None

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement outside a transaction, as the superuser."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self) -> str:
        """A new, empty database; returns its URL."""
        name = f"maskloop_{uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def clear(self, url: str) -> None:
        """Cut the connections to a migrated database and empty its tables: ten times as quick as a new one."""
        name = url.rpartition("/")[2]
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        tables = ", ".join(Base.metadata.tables)
        self.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE", database=name)

    def drop(self, url: str) -> None:
        """Cut its connections and remove it."""
        self.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running server for the session."""
    programs = find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed; Debian: apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="maskloop-postgres-") as folder:
        os.chmod(folder, 0o755)
        server = Postgres(programs, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def _database_of_session(postgres: Postgres) -> str:
    url = postgres.create()
    engine = create_pool_engine(url)
    migrate(engine)
    engine.dispose()
    return url


@pytest.fixture
def postgres_url(postgres: Postgres, _database_of_session: str) -> str:
    """A migrated database without a row."""
    postgres.clear(_database_of_session)
    return _database_of_session


@pytest.fixture
def empty_database(postgres: Postgres) -> Iterator[str]:
    """A database without a table."""
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str | None:
    """MASKLOOP_DATABASE_URL of the test's pool; None: SQLite."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return None
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def empty_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of a pool that nobody has opened yet, on each database."""
    url = None if request.param == "sqlite" else str(request.getfixturevalue("empty_database"))
    return Settings(home=tmp_path / "home", database_url=url)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of `BOTH` on both databases."""
    if "database_url" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] in BOTH:
        slow = pytest.param("postgresql", marks=pytest.mark.slow)
        metafunc.parametrize("database_url", ["sqlite", slow], indirect=True)
