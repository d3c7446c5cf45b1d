"""Troubles that last: each is one event when it has lasted, and one when it is over, whatever restarts in between."""

import time
from dataclasses import dataclass

from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Cursor

ALARM = "alarm:"
"""How the names of the cursors begin that stand for alarms."""
OVER = "over"
"""Event kinds of a trouble's end: `sync.stuck.over`."""


@dataclass(frozen=True)
class Trouble:
    """What is wrong, and in which project of the pool."""

    what: str
    project_id: int | None = None


class Alarms:
    """Knows which troubles stand. An alarm is a cursor in the pool, so that a restart does not raise it again."""

    def __init__(self, *, pool: Pool, minutes: float) -> None:
        self.pool, self.patience = pool, minutes * 60
        self._since: dict[str, float] = {}
        self._known: dict[str, bool] = {}

    def watch(self, kind: str, subject: str, trouble: Trouble | None) -> None:
        """Note whether there is a trouble now; one that has lasted for the patience is an alarm."""
        key = f"{kind} {subject}"
        if trouble is None:
            self._since.pop(key, None)
            self.set(kind, subject, None)
            return
        since = self._since.setdefault(key, time.monotonic())
        if time.monotonic() - since >= self.patience:
            self.set(kind, subject, trouble.what, project_id=trouble.project_id)

    def set(self, kind: str, subject: str, what: str | None, *, project_id: int | None = None) -> None:
        """Raise an alarm at once, or end it when `what` is None. Nothing happens when it is so already."""
        name = f"{ALARM}{kind}:{subject}"[:60]
        wanted = what is not None
        if name not in self._known:
            with self.pool.read() as session:
                self._known[name] = session.get(Cursor, name) is not None
        if self._known[name] == wanted:
            return
        with self.pool.write() as session:
            row = session.get(Cursor, name)
            if wanted and row is None:
                session.add(Cursor(name=name, position=int(time.time())))
                record(session, kind, project_id=project_id, subject=subject, data={"reason": what})
            elif not wanted and row is not None:
                seconds = int(time.time()) - row.position
                session.delete(row)
                record(session, f"{kind}.{OVER}", project_id=project_id, subject=subject, data={"seconds": seconds})
        self._known[name] = wanted
