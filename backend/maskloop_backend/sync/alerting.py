"""Events that somebody should know of become alerts: read by a cursor for each target, so that none is forgotten."""

import logging
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import func, select

from maskloop_backend.alerts import Alert, AlertError, Target, find_targets
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Cursor, Event, Project, utcnow
from maskloop_learner.settings import Settings

log = logging.getLogger(__name__)

EVENTS_AT_ONCE = 500
OLDEST = timedelta(hours=24)
"""What a target that was away for longer has missed is not sent any more."""
QUIET = 3600.0
"""Seconds in which one alert of a kind and subject is enough; what follows is counted in the next one."""
FIRST_PAUSE, LONGEST_PAUSE = 15.0, 600.0
Key = tuple[str, int | None, str]
SAID: dict[str, str] = {
    "round.failed": "training round {subject} failed for good: {reason}",
    "model.broken": "model {subject} cannot be served any more: {reason}",
    "sync.stuck": "no exchange with Label Studio: {reason}",
    "sync.stuck.over": "the exchange with Label Studio goes on after {minutes} minutes",
    "worker.missing": "{reason}",
    "worker.missing.over": "queue {subject} has a worker again after {minutes} minutes",
    "queue.down": "{reason}",
    "queue.down.over": "Redis answers again after {minutes} minutes",
    "disk.low": "{reason}",
    "disk.low.over": "there is room again in {subject}: trainings go on",
    "pool.restored": "the pool was restored from a backup of {made_at}",
}
"""Event kind -> text; other events are no alerts."""


class Alerter:
    """Brings the events of the log to one target. A target that is down is tried again; it never holds `sync` up."""

    def __init__(self, *, pool: Pool, target: Target) -> None:
        self.pool, self.target = pool, target
        self._thread: threading.Thread | None = None
        self._failed: str | None = None
        self._next, self._pause = 0.0, FIRST_PAUSE
        self._read_to = self._told_to = 0
        self._sent_at: dict[Key, float] = {}
        self._alike: Counter[Key] = Counter()
        """Held back since the last one of the kind was sent."""

    @classmethod
    def of(cls, pool: Pool, settings: Settings) -> list["Alerter"]:
        """One for each target of the settings; a setting that cannot be used is logged."""
        try:
            return [cls(pool=pool, target=target) for target in find_targets(settings)]
        except AlertError as error:
            log.error("no alerts are sent: %s", error)
            return []

    def step(self) -> None:
        """Take up the result of the last delivery, and begin the next."""
        if self._thread is not None:
            if self._thread.is_alive():
                return
            self._thread = None
            self._settle()
        if time.monotonic() < self._next:
            return
        alerts = self._read()
        if alerts:
            self._thread = threading.Thread(target=self._deliver, args=(alerts,), name="alerts", daemon=True)
            self._thread.start()

    def _read(self) -> list[tuple[int, Alert]]:
        with self.pool.read() as session:
            cursor = session.get(Cursor, self._cursor)
            newest = session.scalar(select(func.max(Event.id))) or 0
            # A new target is not told of the past.
            position = cursor.position if cursor else newest
            statement = select(Event).where(Event.id > position).order_by(Event.id).limit(EVENTS_AT_ONCE)
            events = session.scalars(statement).all()
            projects = {row.id: row for row in session.scalars(select(Project))}
        self._read_to = events[-1].id if events else newest
        due = [event for event in events if is_due(event) and event.at > utcnow() - OLDEST]
        alerts = [(event.id, alert_of(event, projects.get(event.project_id or 0))) for event in due]
        if not alerts and (cursor is None or self._read_to != position):
            self._advance(self._read_to)
        return alerts

    def _deliver(self, alerts: list[tuple[int, Alert]]) -> None:
        self._failed = "its thread ended"
        for number, alert in alerts:
            key = alert.kind, alert.project, alert.subject
            if time.monotonic() - self._sent_at.get(key, -QUIET) < QUIET:
                self._alike[key] += 1
            else:
                more = f" ({count} more like it before)" if (count := self._alike.pop(key, 0)) else ""
                try:
                    self.target.send(replace(alert, text=alert.text + more))
                except AlertError as error:
                    self._alike[key] += count
                    self._failed = str(error)
                    return
                self._sent_at[key] = time.monotonic()
            self._told_to = number
        self._told_to, self._failed = self._read_to, None

    def _settle(self) -> None:
        # Those before one that failed are not told again.
        self._advance(self._told_to)
        if self._failed is None:
            self._pause = FIRST_PAUSE
            return
        log.warning("an alert was not delivered, and is tried again in %.0f s: %s", self._pause, self._failed)
        self._next = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _advance(self, position: int) -> None:
        with self.pool.write() as session:
            row = session.get(Cursor, self._cursor)
            if row is None:
                session.add(Cursor(name=self._cursor, position=position))
            else:
                row.position = max(row.position, position)

    @property
    def _cursor(self) -> str:
        return f"alerts:{self.target.name}"[:60]


def is_due(event: Event) -> bool:
    """Whether an event is worth an alert: a training that is tried again by itself is none."""
    return event.kind in SAID and not (event.kind == "round.failed" and event.data.get("retry_at"))


def alert_of(event: Event, project: Project | None) -> Alert:
    """The message of an event."""
    minutes = max(1, round(event.data.get("seconds", 0) / 60))
    words: dict[str, object] = {"reason": "", "made_at": "", **event.data, "subject": event.subject, "minutes": minutes}
    said = SAID[event.kind].format(**words)
    of = f" project {project.ls_id} ({project.title})," if project is not None else ""
    return Alert(
        text=f"Maskloop:{of} {said}",
        kind=event.kind,
        subject=event.subject,
        project=project.ls_id if project is not None else None,
        at=event.at.isoformat(timespec="seconds"),
        data=dict(event.data),
    )
