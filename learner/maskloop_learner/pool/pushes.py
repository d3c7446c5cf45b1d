"""Predictions in Label Studio that say no longer what the pool says: noted here, taken back by `sync`."""

from typing import Literal

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from maskloop_learner.pool.schema import Push, Task, utcnow

Why = Literal["image", "part", "prompts", "typed", "blind"]
"""The task shows another image, or one more that could not be read before; its images are asked another thing, after an
edit of its data or by an annotator, who has it open; its masks are to be shown no more, or again."""


def mark_stale(session: Session, task: Task, why: Why) -> None:
    """Have what Label Studio holds of a task taken back and made anew, whenever that can be done.

    Within the transaction that changes the task, so that no crash in between forgets it.
    """
    parts = select(Task.id).where(Task.project_id == task.project_id, Task.ls_id == task.ls_id)
    standing: list[ColumnElement[bool]] = [Push.task_id.in_(parts), Push.gone_at.is_(None)]
    if why != "image":
        # The first reason stays; but an image that was replaced goes at once, whatever else changed.
        standing.append(Push.stale == "")
    session.execute(update(Push).where(*standing).values(stale=why, stale_at=utcnow()))
