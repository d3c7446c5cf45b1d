"""What `get` and `set` of a subclass stand on: text by key, per class and project, in SQLite.

Nothing is cached: what one process sets the next read of any other sees, and a SIGKILL takes nothing away.
"""

import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.sqlite import insert

from maskloop_backend.ml_base.tables import open_tables, values

MODEL_VERSION = "model_version"


class State:
    """The values of one served class, by project and key."""

    def __init__(self, home: Path, model: str) -> None:
        self.engine, self.model = open_tables(home), model

    def get(self, project: str, key: str) -> str | None:
        """The value, or None."""
        with self.engine.connect() as connection:
            return self._read(connection, project, key)

    def set(self, project: str, key: str, value: str) -> None:
        """Keep a value. Raises ValueError when it is not a string."""
        if not isinstance(value, str):
            raise ValueError(
                f"{self.model}: set({key!r}, ...) takes a string, got {type(value).__name__} {value!r:.80}; "
                "use json.dumps for anything else"
            )
        self.change(project, key, lambda _: value)

    def change(self, project: str, key: str, change: Callable[[str | None], str]) -> str:
        """Replace a value by `change(value)` with no other writer between; returns the new one."""
        with self.engine.connect().execution_options(maskloop_write=True) as connection, connection.begin():
            new = change(self._read(connection, project, key))
            row = {"model": self.model, "project": project, "key": key, "value": new, "updated_at": time.time()}
            added = insert(values).values(row)
            connection.execute(
                added.on_conflict_do_update(
                    index_elements=[values.c.model, values.c.project, values.c.key],
                    set_={
                        "value": added.excluded.value,
                        "updated_at": added.excluded.updated_at,
                        "changes": values.c.changes + 1,
                    },
                    where=values.c.value != added.excluded.value,
                )
            )
        return new

    def revision(self, project: str) -> int:
        """A number that grows whenever a value of the project changes."""
        statement = select(func.coalesce(func.sum(values.c.changes), 0))
        with self.engine.connect() as connection:
            return int(
                connection.scalar(statement.where(values.c.model == self.model, values.c.project == project)) or 0
            )

    def projects(self) -> list[str]:
        """Projects that have any value."""
        statement = select(values.c.project).distinct().where(values.c.model == self.model, values.c.project != "")
        with self.engine.connect() as connection:
            return sorted(connection.scalars(statement))

    def versions(self) -> list[str]:
        """The current model versions of all projects, the newest first."""
        statement = (
            select(values.c.value)
            .where(values.c.model == self.model, values.c.key == MODEL_VERSION)
            .order_by(values.c.updated_at.desc())
        )
        with self.engine.connect() as connection:
            return list(dict.fromkeys(connection.scalars(statement)))

    def _read(self, connection: Connection, project: str, key: str) -> str | None:
        statement = select(values.c.value).where(
            values.c.model == self.model, values.c.project == project, values.c.key == key
        )
        return connection.scalar(statement)
