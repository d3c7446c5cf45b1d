"""The pool: the database and the store of one installation, opened together."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from maskloop_learner.pool.database import DatabaseDown, DatabaseError, create_pool_engine, migrate
from maskloop_learner.pool.postgres import reading
from maskloop_learner.pool.store import Store
from maskloop_learner.settings import Settings, get_settings

log = logging.getLogger(__name__)

UNFINISHED = "restore-unfinished.json"
"""In the home folder while a backup is restored into it."""


class Pool:
    """What Maskloop knows, in short transactions. Holds no open connection between two of them."""

    def __init__(self, *, engine: Engine, store: Store) -> None:
        self.engine = engine
        self.store = store
        self._reader = reading(engine) if engine.dialect.name == "postgresql" else engine

    @classmethod
    def open(
        cls,
        settings: Settings | None = None,
        *,
        patience: float = 0.0,
        waiting: Callable[[], None] = lambda: None,
    ) -> Self:
        """Open the pool of `settings`, creating or migrating its database. DatabaseError when it cannot be used.

        A database server that does not answer is asked for `patience` seconds, with a call of `waiting` every second;
        then DatabaseDown is raised.
        """
        settings = settings or get_settings()
        if (settings.home / UNFINISHED).exists():
            raise DatabaseError(
                f"a restore into {settings.home} was interrupted, or goes on; wait for its end, or repeat "
                "`maskloop restore`"
            )
        engine = create_pool_engine(settings.resolved_database_url)
        end = time.monotonic() + patience
        while True:
            try:
                migrate(engine)
                break
            except DatabaseDown as error:
                if time.monotonic() > end:
                    raise
                log.warning("waiting: %s", error)
                waiting()
                time.sleep(1.0)
        return cls(engine=engine, store=Store(settings.resolved_store_url, settings.resolved_store_options))

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session on one consistent state; nothing that is changed in it is kept."""
        with Session(self._reader, expire_on_commit=False, autoflush=False) as session:
            yield session
            # What was read stays usable afterwards: closing the session would expire it.
            session.expunge_all()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that may write; committed at the end, rolled back on an error. No slow call belongs inside."""
        with (
            self.engine.connect().execution_options(maskloop_write=True) as connection,
            Session(connection, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def dispose(self) -> None:
        """Close all connections; a forked child calls this before it uses the pool."""
        self.engine.dispose(close=False)

    def close(self) -> None:
        """Close all connections of this process."""
        self.engine.dispose()
