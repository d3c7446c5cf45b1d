"""Events that wait for `fit`: kept in SQLite before the webhook is answered, gone when `fit` has ended."""

import json
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from maskloop_backend.ml_base.tables import events, open_tables, outcomes


@dataclass(frozen=True)
class Event:
    """A webhook of Label Studio: its action, and the payload without it."""

    number: int
    project: str
    event: str
    data: dict[str, Any]
    label_config: str | None
    attempts: int
    """How often `fit` began with it before; above 0 only after a process died in it."""


class Events:
    """The events of one served class, and how the last ones ended."""

    def __init__(self, home: Path, model: str) -> None:
        self.engine, self.model = open_tables(home), model

    def add(self, project: str, event: str, data: dict[str, Any], *, label_config: str | None) -> int:
        """Keep an event; returns its number."""
        row = {
            "model": self.model,
            "project": project,
            "event": event,
            "data": json.dumps(data),
            "label_config": label_config,
            "received_at": time.time(),
        }
        with self._writing() as connection, connection.begin():
            added = connection.execute(insert(events).values(row)).inserted_primary_key
        return int(added[0]) if added else 0

    def take(self, busy: set[str]) -> Event | None:
        """The oldest event of a project that is not busy, counted as attempted; None when there is none."""
        oldest = select(func.min(events.c.id)).where(self._mine()).group_by(events.c.project)
        next_one = select(events.c.id).where(events.c.id.in_(oldest), events.c.project.not_in(busy))
        with self.engine.connect() as connection:
            number = connection.scalar(next_one.order_by(events.c.id).limit(1))
        if number is None:
            return None
        chosen = events.c.id == number
        with self._writing() as connection, connection.begin():
            row = connection.execute(select(events).where(chosen)).one()
            connection.execute(update(events).where(chosen).values(attempts=events.c.attempts + 1))
        return Event(row.id, row.project, row.event, json.loads(row.data), row.label_config, row.attempts)

    def finish(self, event: Event, error: BaseException | None = None) -> None:
        """Drop an event whose `fit` has ended, and remember how."""
        with self._writing() as connection, connection.begin():
            connection.execute(delete(events).where(events.c.id == event.number))
            self._count(connection, "failed" if error is not None else "fitted")
            if error is not None:
                self._remember(connection, f"fit of project {event.project} on {event.event}", error)

    def record_error(self, place: str, error: BaseException) -> None:
        """Show an error as `last_error`."""
        with self._writing() as connection, connection.begin():
            self._remember(connection, place, error)

    def report(self) -> dict[str, Any]:
        """Counts of events waiting, fitted and failed, and the last error with its place and time, or None."""
        with self.engine.connect() as connection:
            waiting = connection.scalar(select(func.count()).select_from(events).where(self._mine()))
            row = connection.execute(select(outcomes).where(outcomes.c.model == self.model)).first()
        return {
            "fits": {"waiting": waiting, "fitted": row.fitted if row else 0, "failed": row.failed if row else 0},
            "last_error": json.loads(row.last_error) if row and row.last_error else None,
        }

    def _writing(self) -> Connection:
        return self.engine.connect().execution_options(maskloop_write=True)

    def _mine(self) -> ColumnElement[bool]:
        return events.c.model == self.model

    def _count(self, connection: Connection, column: str) -> None:
        self._ensure(connection)
        counted = {column: outcomes.c[column] + 1}
        connection.execute(update(outcomes).where(outcomes.c.model == self.model).values(counted))

    def _remember(self, connection: Connection, place: str, error: BaseException) -> None:
        self._ensure(connection)
        frame = traceback.extract_tb(error.__traceback__)
        line = f"{frame[-1].filename}:{frame[-1].lineno}" if frame else None
        shown = {"where": place, "what": f"{type(error).__name__}: {error}"[:1000], "line": line, "at": time.time()}
        connection.execute(update(outcomes).where(outcomes.c.model == self.model).values(last_error=json.dumps(shown)))

    def _ensure(self, connection: Connection) -> None:
        connection.execute(insert(outcomes).values(model=self.model).on_conflict_do_nothing())
