"""The last events of a project in words, from the pool's log."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from maskloop_backend.sync.alarms import OVER
from maskloop_learner.pool.schema import Event

SHOWN = 20
LABEL = "label.taken"
LONGEST = 300
"""Characters of an event's own words."""
CAUSES = {
    "labels": "new labels",
    "cron": "the clock",
    "button": "the button in Label Studio",
    "cli": "the command line",
    "dashboard": "this dashboard",
    "demo": "the demo",
}
"""Cause of a training -> who or what started it."""
WORDS: Mapping[str, str] = {
    "backup.made": "A backup was made",
    "batch.closed": "Batch {subject} is closed",
    "batch.created": "Batch {subject} was made of {images} images, by {strategy}",
    "batch.undone": "Batch {subject} was undone",
    "champion.changed": "Model {model} serves, by {by}",
    "champion.released": "The champion is not held any more, by {by}",
    "config.changed": "The label config was changed",
    "disk.low": "The disk is nearly full",
    "grouping.changed": "What keeps images together was changed",
    "label.deleted": "Annotation {annotation} was deleted",
    "label.taken": "A label of task {task} was taken in",
    "model.added": "Model {subject} was added",
    "model.exported": "Model {subject} was exported",
    "model.pruned": "The weights of model {subject} were removed",
    "pool.migrated": "The pool was upgraded",
    "pool.restored": "The pool was restored from a backup",
    "predictions.dropped": "{count} old masks were taken out of Label Studio",
    "project.connected": "The project was connected",
    "prompts.changed": "The prompts were changed",
    "prompts.imported": "Prompts were imported",
    "queue.down": "Redis does not answer",
    "round.cancelled": "Training {subject} was cancelled by {by}",
    "round.failed": "Training {subject} failed",
    "round.opened": "Training {subject} was opened by {cause}",
    "round.promoted": "Training {subject} made model {model}, which serves",
    "round.rejected": "Training {subject} made model {model}, which is not served",
    "round.shadow": "Training {subject} made model {model}, which waits for a person",
    "round.started": "Training {subject} has begun (attempt {attempt})",
    "schedule.paused": "The schedule was paused by {by}",
    "schedule.resumed": "The schedule was resumed by {by}",
    "shadow.begun": "Model {subject} waits for a person",
    "shadow.ended": "Model {subject} waits no more, by {by}",
    "snapshot.frozen": "Snapshot {subject} was frozen: {labels} labels on {images} images",
    "sync.failed": "sync could not go through the project",
    "sync.stuck": "sync cannot go through the project",
    "task.deleted": "Task {subject} was deleted",
    "training.refused": "No training was started",
    "training.requested": "A training was asked for by {cause}",
    "training.withdrawn": "{requests} wishes for a training were withdrawn, by {by}",
    "version.changed": "Masks are made anew as {subject}",
    "version.served": "Label Studio serves {subject}",
    "worker.missing": "Jobs wait and no worker takes them",
}
"""Kind of an event -> a sentence without its full stop; names stand for its data."""


@dataclass(frozen=True, kw_only=True)
class Happening:
    """One event, or several of the same kind in a row."""

    at: datetime
    """Of the last of them."""
    kind: str
    words: str
    detail: str
    """Why, in the words of whoever wrote it; "" without any."""
    times: int = 1
    """How many of its kind stand in a row, where only the last is told."""


def read_happenings(session: Session, project_id: int, *, limit: int = SHOWN) -> list[Happening]:
    """The last events of the project and of the whole installation, the newest first; labels in a row are one."""
    others = _others(session, project_id, limit)
    found: list[Happening] = []
    newer: int | None = None
    for row in (*others, None):
        if len(found) < limit and (labels := _labels(session, project_id, row.id if row else 0, newer)):
            found.append(labels)
        if len(found) == limit:
            break
        if row is not None:
            found.append(tell(row))
            newer = row.id
    return found


def _others(session: Session, project_id: int, limit: int) -> list[Event]:
    """The last events that are no labels, the newest first."""
    # Two questions, each of which an index answers in order: a log has a line for every label there ever was.
    rows: list[Event] = []
    for mine in (Event.project_id == project_id, Event.project_id.is_(None)):
        statement = select(Event).where(mine, Event.kind != LABEL)
        rows += session.scalars(statement.order_by(Event.id.desc()).limit(limit))
    return sorted(rows, key=lambda row: -row.id)[:limit]


def _labels(session: Session, project_id: int, older: int, newer: int | None) -> Happening | None:
    """The labels between two events, as one line; None where there is none."""
    between = [Event.project_id == project_id, Event.kind == LABEL, Event.id > older]
    if newer is not None:
        between.append(Event.id < newer)
    count, last = session.execute(select(func.count(), func.max(Event.id)).where(*between)).one()
    if not count:
        return None
    told = tell(session.get_one(Event, last))
    words = told.words if count == 1 else f"{count:,} labels were taken in"
    return Happening(at=told.at, kind=LABEL, words=words, detail="", times=count)


def tell(event: Event) -> Happening:
    """An event in words; one of a kind that is not known by its name."""
    data = dict(event.data or {})
    if "cause" in data:
        data["cause"] = CAUSES.get(data["cause"], data["cause"])
    known = WORDS.get(event.kind)
    try:
        words = known.format_map({"subject": event.subject, **data}) if known else _by_name(event)
    except KeyError:
        words = _by_name(event)  # an earlier release noted less
    return Happening(at=event.at, kind=event.kind, words=words, detail=_reason(data))


def _by_name(event: Event) -> str:
    if event.kind.endswith(f".{OVER}"):
        before = WORDS.get(event.kind.removesuffix(f".{OVER}"))
        return f"Over: {before[:1].lower()}{before[1:]}" if before else event.kind
    subject = f" ({event.subject})" if event.subject else ""
    return f"{event.kind.replace('.', ' ').replace('_', ' ').capitalize()}{subject}"


def _reason(data: Mapping[str, Any]) -> str:
    said = data.get("reason") or data.get("error") or ""
    return str(said)[:LONGEST]
