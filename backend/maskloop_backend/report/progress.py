"""How far the labelling is: images with a label, day by day, and what is left."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, aliased

from maskloop_learner.pool.queries import drawn
from maskloop_learner.pool.schema import Label, Task


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Counts of tasks of Label Studio that are still there."""

    images: int
    labelled: int
    skipped: int
    """Skipped and not drawn on."""
    failed: int
    days: Sequence[tuple[date, int]]
    """Day (UTC) -> tasks whose first label came on it, the first day first; days without any are left out."""

    @property
    def left(self) -> int:
        """Neither labelled nor skipped, and not failed."""
        return max(0, self.images - self.labelled - self.skipped - self.failed)

    @property
    def grown(self) -> list[tuple[date, int]]:
        """Day -> labelled tasks at its end."""
        found, total = list[tuple[date, int]](), 0
        for day, count in self.days:
            total += count
            found.append((day, total))
        return found


def find_progress(session: Session, project_id: int) -> Progress:
    """Count in the database: a pool may hold a hundred thousand images."""
    mine = Task.project_id == project_id, Task.deleted_at.is_(None)
    passed = select(Label.id).where(Label.task_id == Task.id, Label.current, Label.cancelled).exists()

    def count(*conditions: ColumnElement[bool]) -> int:
        statement = select(func.count(func.distinct(Task.ls_id))).where(*mine, *conditions)
        return session.scalar(statement) or 0

    return Progress(
        images=count(),
        labelled=count(drawn()),
        skipped=count(passed, ~drawn()),
        failed=count(Task.state == "failed", ~drawn(), ~passed),
        days=_days(session, project_id),
    )


def _days(session: Session, project_id: int) -> list[tuple[date, int]]:
    made = aliased(Label)
    first = (
        select(func.min(made.ls_updated_at).label("at"))
        .join(Task, Task.id == made.task_id)
        .where(Task.project_id == project_id, Task.deleted_at.is_(None), drawn(), ~made.cancelled, ~made.deleted)
        .group_by(Task.ls_id)
        .subquery()
    )
    day = func.date(first.c.at)
    rows = session.execute(select(day, func.count()).group_by(day).order_by(day))
    # SQLite has no dates, and gives a text.
    return [(each if isinstance(each, date) else date.fromisoformat(each), number) for each, number in rows]
