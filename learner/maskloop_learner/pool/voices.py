"""Whose annotations of an image count: the newest of each annotator, or of all."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_learner.pool.manifest import MergeRule
from maskloop_learner.pool.queries import usable_labels
from maskloop_learner.pool.schema import Label, Project, Task


class Labelled(NamedTuple):
    """A label with the task it was drawn in."""

    label: Label
    task: Task


def knows(label: Label, name: str) -> bool:
    """Whether the annotator could draw this label."""
    return label.known is None or name in label.known


def labels_by_image(session: Session, project_id: int) -> dict[str, list[Labelled]]:
    """Image digest -> all its labels that can be learnt from, the oldest first.

    One that knows of no label that the project has today is none: its annotator never saw the image, or all labels
    are others now.
    """
    labels = sorted(usable_labels(session, project_id), key=lambda row: (row.ls_updated_at, row.id))
    names = list(session.get_one(Project, project_id).control.get("labels", []))
    labelled = select(Label.task_id).where(Label.current, ~Label.deleted)
    statement = select(Task).where(Task.project_id == project_id, Task.id.in_(labelled))
    tasks = {task.id: task for task in session.scalars(statement)}
    found: dict[str, list[Labelled]] = {}
    for label in labels:
        task = tasks[label.task_id]
        if task.image_digest is not None and any(knows(label, name) for name in names):
            found.setdefault(task.image_digest, []).append(Labelled(label, task))
    return found


def choose_voices(labels: Sequence[Labelled], rule: MergeRule) -> list[Labelled]:
    """Those that a rule merges, the oldest first: by `latest` the newest alone, else the newest of each annotator."""
    if rule == "latest":
        return [labels[-1]]
    by_author = {row.label.author or f"annotation {row.label.ls_annotation_id}": row for row in labels}
    return sorted(by_author.values(), key=lambda row: (row.label.ls_updated_at, row.label.id))


def voices(session: Session, project_id: int, rule: MergeRule) -> dict[str, list[Labelled]]:
    """Image digest -> the labels that a snapshot would merge."""
    return {image: choose_voices(rows, rule) for image, rows in labels_by_image(session, project_id).items()}


def newest_labels(session: Session, project_id: int) -> dict[str, tuple[Label, Task]]:
    """Image digest -> its newest label, with its task."""
    return {image: (rows[-1].label, rows[-1].task) for image, rows in labels_by_image(session, project_id).items()}
