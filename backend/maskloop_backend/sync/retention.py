"""Old predictions leave Label Studio, but none that somebody may still need."""

import logging
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import exists, select
from sqlalchemy.orm import aliased

from maskloop_backend.labelstudio.client import LabelStudio, PredictionCount
from maskloop_backend.results import UNANSWERED, UNTRAINED
from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Label, Project, Push, Task, utcnow
from maskloop_learner.settings import Settings

log = logging.getLogger(__name__)

EMPTY_REPLIES = frozenset({UNANSWERED, UNTRAINED})
AT_ONCE = 50
"""Label Studio takes about 70 ms for each deletion; a look at other things must fit in between."""


def drop_old_predictions(pool: Pool, client: LabelStudio, project_id: int, settings: Settings) -> int:
    """Delete some predictions of versions before the previous one; return how many.

    Kept are those of tasks that are locked or have a draft (deleting one makes Submit fail) and the parents of
    annotations (deleting one blanks what the annotator was shown), and everything until `retention_hours` have
    passed since the last switch, the time for which an open tab may hold a task.
    """
    with pool.read() as session:
        project = session.get_one(Project, project_id)
        if project.switched_at is None or utcnow() - project.switched_at < timedelta(hours=settings.retention_hours):
            return 0
        part = aliased(Task)
        parent = exists().where(
            # A label of any of the task's images: the first may have left the label config.
            part.project_id == Task.project_id,
            part.ls_id == Task.ls_id,
            Label.task_id == part.id,
            Label.parent_prediction == Push.ls_prediction_id,
        )
        statement = (
            select(Push, Task.ls_id)
            .join(Task, Task.id == Push.task_id)
            .where(
                Push.project_id == project_id,
                Push.gone_at.is_(None),
                Push.version_id.not_in([v for v in (project.served_version, project.previous_version) if v]),
                ~parent,
            )
            .order_by(Push.ls_prediction_id)
        )
        old = [(push, ls_id) for push, ls_id in session.execute(statement)]
    if not old:
        return 0
    busy = client.busy_tasks(project.ls_id)
    gone = [push for push, ls_id in old if ls_id not in busy][:AT_ONCE]
    for push in gone:
        client.delete_predictions([push.ls_prediction_id])
        with pool.write() as session:
            session.get_one(Push, (push.ls_prediction_id, project_id)).gone_at = utcnow()
    if gone:
        with pool.write() as session:
            record(session, "predictions.dropped", project_id=project_id, data={"count": len(gone)})
    return len(gone)


def drop_empty_replies(client: LabelStudio, ls_id: int, counts: Mapping[int, PredictionCount]) -> int:
    """Delete empty replies to /predict, which Label Studio keeps as predictions; return how many.

    While one stands, Label Studio does not ask for that task again.
    """
    tasks = {task for task, count in counts.items() if count.versions & EMPTY_REPLIES}
    if not tasks:
        return 0
    tasks -= client.busy_tasks(ls_id)
    rows = client.predictions_index(ls_id, tasks=sorted(tasks)[:AT_ONCE]) if tasks else []
    return client.delete_predictions([row.id for row in rows if row.version in EMPTY_REPLIES])
