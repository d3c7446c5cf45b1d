"""Holds: while a backup is made, nothing is removed from the store. A hold that is not renewed ends by itself."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import delete, select

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Cursor

PREFIX = "hold:"
SECONDS = 600
"""Of a hold without renewal: a backup that was killed stands in the way no longer than that."""
RENEW_EVERY = 60.0


def is_held(pool: Pool) -> bool:
    """Whether somebody needs the store to keep all that it holds."""
    with pool.read() as session:
        held = select(Cursor.name).where(Cursor.name.startswith(PREFIX), Cursor.position > int(time.time()))
        return session.scalar(held.limit(1)) is not None


@contextmanager
def hold_store(pool: Pool, name: str) -> Iterator[Callable[[], None]]:
    """Keep the store as it is; yields what is to be called from time to time so that the hold goes on."""
    key = f"{PREFIX}{name}"
    renewed = 0.0

    def renew() -> None:
        nonlocal renewed
        if renewed and time.monotonic() - renewed < RENEW_EVERY:
            return
        renewed = time.monotonic()
        with pool.write() as session:
            now = int(time.time())
            # Those of backups that were killed.
            session.execute(delete(Cursor).where(Cursor.name.startswith(PREFIX), Cursor.position < now))
            session.merge(Cursor(name=key, position=now + SECONDS))

    renew()
    try:
        yield renew
    finally:
        with pool.write() as session:
            session.execute(delete(Cursor).where(Cursor.name == key))
