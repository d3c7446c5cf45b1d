"""Shows each task's uncertainty in Label Studio, where the label config asks for it."""

import re
import time
from collections.abc import Callable

from sqlalchemy import func, select

from maskloop_backend.labelstudio.batches import batches
from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.labelstudio.template import UNCERTAINTY_FIELD
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import answers, drawn, servable
from maskloop_learner.pool.schema import Prediction, Project, Task

AT_ONCE = 20
SECONDS = 5.0
"""Of writing before labels are looked for again: Label Studio takes each task by itself."""
DIGITS = 4


def asks_for_uncertainty(label_config: str) -> bool:
    """Whether a tag of the label config shows the field `uncertainty` of the tasks' data."""
    return re.search(rf"[$]{UNCERTAINTY_FIELD}\b", label_config) is not None


def show_uncertainties(
    pool: Pool, client: LabelStudio, project: Project, version: str, *, beat: Callable[[], None]
) -> bool:
    """Write some unlabelled tasks' uncertainties into their data; return whether more are to be written."""
    if not asks_for_uncertainty(project.label_config):
        return False
    statement = (
        select(Task.ls_id, func.max(Prediction.uncertainty))
        .join(Prediction, answers(Prediction, version))
        .where(*servable(project.id), Prediction.uncertainty.is_not(None), ~drawn())
        .group_by(Task.ls_id)
        .order_by(func.max(Prediction.uncertainty).desc(), Task.ls_id)
    )
    with pool.read() as session:
        values = {ls_id: round(value, DIGITS) for ls_id, value in session.execute(statement) if value is not None}
        rows = session.execute(select(Task.ls_id, Task.data).where(*servable(project.id)))
        shown = {ls_id: data for ls_id, data in rows}  # noqa: C416 - typed rows
    due = {ls_id: value for ls_id, value in values.items() if shown[ls_id].get(UNCERTAINTY_FIELD) != value}
    end = time.monotonic() + SECONDS
    for some in batches(due, AT_ONCE, lambda _: 0):
        if time.monotonic() > end:
            return True
        beat()
        # What stands there now, not what the pool knows: somebody may have edited it.
        there = client.task_data(project.ls_id, some)
        written = {ls_id: {**data, UNCERTAINTY_FIELD: due[ls_id]} for ls_id, data in there.items()}
        for ls_id, data in written.items():
            client.set_task_data(ls_id, data)
        with pool.write() as session:
            mine = Task.project_id == project.id, Task.ls_id.in_(list(written))
            for task in session.scalars(select(Task).where(*mine)):
                task.data = written[task.ls_id]
    return False
