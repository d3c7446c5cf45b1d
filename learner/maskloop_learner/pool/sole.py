"""The turn of the one process of a kind that may work for an installation, on whichever of its hosts it runs."""

from typing import Self

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from maskloop_learner.pool.database import reason_of

SYNC = 7126018
"""Number of the advisory lock of `sync`."""


class TurnLost(RuntimeError):
    """The database has forgotten this process: another one may have its turn."""


class Turn:
    """A lock of the database that its server frees as soon as the holder's connection ends, however it ends.

    PostgreSQL only: a SQLite pool belongs to one host, where a lock on a file does the same.
    """

    def __init__(self, engine: Engine, number: int) -> None:
        self._engine, self._number = engine, number
        self._connection: Connection | None = None

    def take(self) -> bool:
        """Whether the turn is ours now. Raises OperationalError while the server is down."""
        self.give()
        if self._engine.dialect.name != "postgresql":
            return True
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        # Of its own: it is neither lent to others nor closed while the turn lasts.
        connection.detach()
        try:
            taken = bool(connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({self._number})").scalar())
        except DBAPIError:
            connection.invalidate()
            connection.close()
            raise
        if not taken:
            connection.close()
            return False
        self._connection = connection
        return True

    def check(self) -> None:
        """Raise TurnLost unless the turn is still ours."""
        if self._engine.dialect.name != "postgresql":
            return
        if self._connection is None:
            raise TurnLost("this process has no turn")
        try:
            self._connection.exec_driver_sql("SELECT 1")
        except DBAPIError as error:
            self.give()
            raise TurnLost(f"the connection to the database was lost: {reason_of(error)}") from error

    def give(self) -> None:
        """Let another process have it; harmless without it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give()
