"""What an annotator found drawn when a task was opened: looked up for a label, from what the pool knows."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_backend.results import BATCHED, UNANSWERED, UNTRAINED
from maskloop_learner.pool.schema import Event, Label, Prediction, Project, Push, Task

Shown = Literal["model", "blind", "nothing", "unknown"]
"""The model's masks; none, since its task is blind; none, since there were none or the annotator began anew; the pool
cannot tell."""
EMPTY = frozenset({BATCHED, UNANSWERED, UNTRAINED})


@dataclass(frozen=True)
class Showing:
    """What was shown with a label, and the prediction to compare it with: the one shown, or of a blind task the one
    that would have been."""

    shown: Shown
    version: str | None = None
    prediction: Prediction | None = None


def find_shown(session: Session, label: Label, task: Task) -> Showing | None:
    """What the label's annotator was shown. None: not to be told yet, Label Studio has not been compared in full since
    the label came, and its prediction may not be noted here yet."""
    version, known_at = _pushed(session, label, task)
    if version is None and label.parent_prediction is not None:
        checked = session.get_one(Project, task.project_id).checked_at
        if checked is None or checked <= label.created_at:
            return None
    served = version or _served_at(session, task.project_id, label.ls_updated_at)
    if served is None or served in EMPTY:
        return Showing("nothing")  # there was no model yet
    if version is None and not task.blind:
        return Showing("nothing" if label.parent_prediction is None else "unknown")
    prediction = _predicted(session, served, task, known_at or label.ls_updated_at)
    return Showing("blind" if task.blind else "model", served, prediction)


def _pushed(session: Session, label: Label, task: Task) -> tuple[str | None, datetime | None]:
    """Version of the prediction that the annotation names as its parent, and since when it is known."""
    if label.parent_prediction is None:
        return None, None
    statement = (
        select(Push.version_id, Push.created_at)
        .join(Task, Task.id == Push.task_id)
        # Label Studio on SQLite gives the number of one that was deleted to another task's.
        .where(Push.ls_prediction_id == label.parent_prediction, Push.project_id == task.project_id)
        .where(Task.ls_id == task.ls_id)
    )
    row = session.execute(statement).first()
    return (row[0], row[1]) if row is not None else (None, None)


def _served_at(session: Session, project_id: int, moment: datetime) -> str | None:
    statement = select(Event.subject).where(Event.project_id == project_id, Event.kind == "version.served")
    return session.scalar(statement.where(Event.at <= moment).order_by(Event.id.desc()).limit(1))


def _predicted(session: Session, version: str, task: Task, moment: datetime) -> Prediction | None:
    """What the version said of the image by then: other prompts, typed later, make another prediction."""
    statement = select(Prediction).where(
        Prediction.version_id == version,
        Prediction.image_digest == task.image_digest,
        Prediction.error.is_(None),
    )
    found = list(session.scalars(statement.order_by(Prediction.created_at, Prediction.id)))
    before = [row for row in found if row.created_at <= moment]
    same = [row for row in before if row.prompt_digest == task.prompt_digest]
    fitting = same or before or found
    return fitting[-1] if fitting else None
