"""How many labels there are to learn from and which are new, in one pass that loads no label whole.

`voices` chooses the same annotations for a snapshot, with all that belongs to them.
"""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_learner.pool.manifest import MergeRule
from maskloop_learner.pool.queries import is_usable, servable
from maskloop_learner.pool.schema import Label, Project, Task


class Brief(NamedTuple):
    """What decides whether a label counts."""

    id: int
    image: str
    author: str
    ls_updated_at: datetime
    created_at: datetime


def newest_briefs(session: Session, project_id: int, rule: MergeRule) -> dict[str, list[Brief]]:
    """Image digest -> the labels that a snapshot would merge, the oldest first: as `voices`, without loading them."""
    names = set(session.get_one(Project, project_id).control.get("labels", []))
    statement = (
        select(
            Label.id,
            Task.image_digest,
            Label.author,
            Label.ls_annotation_id,
            Label.ls_updated_at,
            Label.created_at,
            Label.known,
        )
        .join(Task, Task.id == Label.task_id)
        .where(*servable(project_id), Task.image_digest.is_not(None), *is_usable())
        .order_by(Label.ls_updated_at, Label.id)
    )
    found: dict[str, dict[str, Brief]] = {}
    for number, image, author, annotation, updated, created, known in session.execute(statement):
        if not _knows_any(known, names):
            continue
        voice = "" if rule == "latest" else author or f"annotation {annotation}"
        mine = found.setdefault(image, {})
        mine.pop(voice, None)  # the order is that of the newest
        mine[voice] = Brief(number, image, author or "", updated, created)
    return {image: list(briefs.values()) for image, briefs in found.items()}


def _knows_any(known: list[Any] | None, names: set[str]) -> bool:
    return bool(names) if known is None else not names.isdisjoint(known)
