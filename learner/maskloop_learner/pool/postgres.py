"""The pool on PostgreSQL: its driver, its limits in time, and transactions that mean what they mean on SQLite.

Writers of the whole installation, on whatever host, come one after another, as with SQLite's `BEGIN IMMEDIATE`: each
takes one advisory lock first, so what it reads cannot change before it has written. Readers see one state and wait
for nobody.
"""

import importlib.util
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

DRIVER = "postgresql+psycopg"
WRITER_LOCK = 7126017
"""Advisory locks are numbers of one database; two installations in one database would wait for each other."""
CONNECT_SECONDS = 10
LOCK_SECONDS = 30
"""As SQLite's busy time-out."""
IDLE_WRITER_SECONDS = 60
"""A writer that says nothing for so long hangs, or its host is gone: the server ends it, or all others would wait."""
_KEEPALIVES = {"idle": 30, "interval": 10, "count": 3}
"""Seconds until a silent peer is asked, seconds between questions, and how many stay unanswered before it is gone."""
_BEGIN_WRITING = (
    f"SELECT set_config('idle_in_transaction_session_timeout', '{IDLE_WRITER_SECONDS}s', true), "
    f"pg_advisory_xact_lock({WRITER_LOCK})"
)


class DriverMissing(RuntimeError):
    """The Python package that speaks to PostgreSQL is not installed."""


def is_postgres(url: URL) -> bool:
    """Whether the URL names a PostgreSQL server: postgresql://, postgres:// or with any driver of it."""
    return url.drivername.split("+")[0] in ("postgresql", "postgres")


def create_postgres_engine(url: URL, **options: Any) -> Engine:
    """An engine on psycopg 3, whatever driver the URL names. It connects when first used, and again after an outage.

    Raises DriverMissing when psycopg is not installed.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise DriverMissing("MASKLOOP_DATABASE_URL names a PostgreSQL server: pip install 'maskloop[postgres]'")
    wanted = url.query.get("options")
    limits = [f"lock_timeout={LOCK_SECONDS}s", "timezone=UTC"]
    limits += [f"tcp_keepalives_{name}={value}" for name, value in _KEEPALIVES.items()]
    asked = [wanted] if isinstance(wanted, str) else list(wanted or ())
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "maskloop",
        "options": " ".join([*(f"-c {limit}" for limit in limits), *asked]),
        "keepalives_idle": _KEEPALIVES["idle"],
        "keepalives_interval": _KEEPALIVES["interval"],
        "keepalives_count": _KEEPALIVES["count"],
        "tcp_user_timeout": 1000 * (_KEEPALIVES["idle"] + _KEEPALIVES["interval"] * _KEEPALIVES["count"]),
    }
    arguments = {name: value for name, value in arguments.items() if name == "options" or name not in url.query}
    bare = url.set(drivername=DRIVER).difference_update_query(["options"])
    engine = create_engine(bare, pool_pre_ping=True, connect_args=arguments, **options)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("maskloop_write", False):
            connection.exec_driver_sql(_BEGIN_WRITING)

    return engine


def reading(engine: Engine) -> Engine:
    """The same connections for transactions that see one state from first to last statement, and change nothing."""
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
