"""What happened last in a project, in words; and the images that cannot be used."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from maskloop_learner.pool.groups import name_of
from maskloop_learner.pool.schema import Event, Task

SHOWN, BROKEN = 15, 8
FAILED = ("round.failed", "training.refused", "model.broken", "sync.failed", "sync.stuck", "queue.down", "disk.low",
          "worker.missing")  # fmt: skip
SAID: dict[str, str] = {
    "project.connected": "The project was connected",
    "config.changed": "The label config changed",
    "prompts.changed": "The prompts changed",
    "prompts.imported": "Prompts were imported",
    "grouping.changed": "What keeps images together changed",
    "round.opened": "Training {subject} was asked for ({cause})",
    "round.rejected": "Training {subject}: model {model} was not let in. {reason}",
    "round.shadow": "Training {subject}: model {model} waits for a person. {reason}",
    "round.cancelled": "Training {subject} was cancelled",
    "round.failed": "Training {subject} failed: {reason}",
    "training.refused": "A training was refused: {reason}",
    "champion.changed": "Model {model} serves from now on. {reason}",
    "champion.released": "The model that was pinned may be replaced again",
    "version.served": "Label Studio serves {subject}, with {predictions} predictions",
    "model.broken": "Model {subject} cannot be served any more: {reason}",
    "model.mended": "Model {subject} is whole again",
    "batch.created": "Batch {subject} was made: {images} images by {strategy}",
    "batch.closed": "Batch {subject} was closed",
    "batch.undone": "Batch {subject} was undone",
    "sync.failed": "The exchange with Label Studio failed: {reason}",
    "sync.stuck": "No exchange with Label Studio: {reason}",
    "sync.stuck.over": "The exchange with Label Studio goes on",
    "worker.missing": "{reason}",
    "worker.missing.over": "Queue {subject} has a worker again",
    "queue.down": "{reason}",
    "queue.down.over": "Redis answers again",
    "disk.low": "{reason}",
    "disk.low.over": "There is room on the disk again",
    "pool.restored": "The pool was restored from a backup of {made_at}",
    "backup.made": "A backup was made",
}
"""Event kind -> text; the others (every label, every edit) are left out."""


@dataclass(frozen=True, kw_only=True)
class Happening:
    """An event, as it is told."""

    at: datetime
    text: str
    failed: bool


@dataclass(frozen=True, kw_only=True)
class Broken:
    """An image that cannot be used, and why."""

    name: str
    error: str


def find_happenings(session: Session, project_id: int, *, limit: int = SHOWN) -> list[Happening]:
    """What happened in the project, and to the whole installation, the newest first."""
    mine = or_(Event.project_id == project_id, Event.project_id.is_(None))
    statement = select(Event).where(mine, Event.kind.in_(SAID)).order_by(Event.id.desc()).limit(limit)
    return [tell(event) for event in session.scalars(statement)]


def tell(event: Event) -> Happening:
    """An event in words. What an earlier release did not note down is left out."""
    words = defaultdict(str, event.data or {}, subject=event.subject)
    said = SAID[event.kind].format_map(words).strip().removesuffix(":")
    return Happening(at=event.at, text=said, failed=event.kind in FAILED)


def find_broken(session: Session, project_id: int, *, limit: int = BROKEN) -> Sequence[Broken]:
    """The first images that cannot be used."""
    statement = (
        select(Task)
        .where(Task.project_id == project_id, Task.state == "failed", Task.deleted_at.is_(None))
        .order_by(Task.ls_id)
        .limit(limit)
    )
    return [
        Broken(name=name_of(task.data or {}, task.url or "") or f"task {task.ls_id}", error=task.error or "unknown")
        for task in session.scalars(statement)
    ]
