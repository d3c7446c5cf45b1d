"""Shows each task's uncertainty in Label Studio, and where it lies, where the label config asks for it."""

import re
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import func, select

from maskloop_backend.heatmaps import HeatMaps
from maskloop_backend.labelstudio.batches import batches
from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.labelstudio.template import HEATMAP_FIELD, UNCERTAINTY_FIELD
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import answers, drawn, servable
from maskloop_learner.pool.schema import Prediction, Project, Task

AT_ONCE = 20
SECONDS = 5.0
"""Of writing before labels are looked for again: Label Studio takes each task by itself."""
DIGITS = 4


def asks_for(label_config: str, field: str) -> bool:
    """Whether a tag of the label config shows a field of the tasks' data."""
    return re.search(rf"[$]{field}\b", label_config) is not None


def show_uncertainties(
    pool: Pool,
    client: LabelStudio,
    project: Project,
    version: str,
    *,
    maps: Callable[[], HeatMaps],
    beat: Callable[[], None],
) -> bool:
    """Write some unlabelled tasks' uncertainties, and the addresses of their heat maps, into their data.

    Returns whether more are to be written. Addresses are renewed at half of their life. `maps` is called only where
    the label config asks for them. Raises CredentialsError when there is nothing to sign them with.
    """
    due = find_due(pool, project, version, maps)
    end = time.monotonic() + SECONDS
    for some in batches(due, AT_ONCE, lambda _: 0):
        if time.monotonic() > end:
            return True
        beat()
        # What stands there now, not what the pool knows: somebody may have edited it.
        there = client.task_data(project.ls_id, some)
        written = {ls_id: data | due[ls_id] for ls_id, data in there.items()}
        for ls_id, data in written.items():
            client.set_task_data(ls_id, data)
        with pool.write() as session:
            mine = Task.project_id == project.id, Task.ls_id.in_(list(written))
            for task in session.scalars(select(Task).where(*mine)):
                task.data = written[task.ls_id]
    return False


def find_due(pool: Pool, project: Project, version: str, maps: Callable[[], HeatMaps]) -> dict[int, dict[str, Any]]:
    """Task in Label Studio -> fields of its data that lack, are of another version, or expire; most uncertain first."""
    number = asks_for(project.label_config, UNCERTAINTY_FIELD)
    picture = asks_for(project.label_config, HEATMAP_FIELD)
    if not number and not picture:
        return {}
    statement = (
        select(Task.ls_id, func.max(Prediction.uncertainty))
        .join(Prediction, answers(Prediction, version))
        .where(*servable(project.id), Prediction.uncertainty.is_not(None), ~drawn())
        .group_by(Task.ls_id)
        .order_by(func.max(Prediction.uncertainty).desc(), Task.ls_id)
    )
    parts = select(Task.ls_id, Task.id, Task.data).where(*servable(project.id)).order_by(Task.id.desc())
    with pool.read() as session:
        values = {ls_id: round(value, DIGITS) for ls_id, value in session.execute(statement) if value is not None}
        # The first of a task's images stands for all of it.
        shown = {ls_id: (task_id, data or {}) for ls_id, task_id, data in session.execute(parts)}
    signer = maps() if picture else None
    due: dict[int, dict[str, Any]] = {}
    for ls_id, value in values.items():
        task_id, data = shown[ls_id]
        fields: dict[str, Any] = {}
        if number and data.get(UNCERTAINTY_FIELD) != value:
            fields[UNCERTAINTY_FIELD] = value
        if signer is not None and not signer.is_fresh(data.get(HEATMAP_FIELD), task_id, version):
            fields[HEATMAP_FIELD] = [signer.address(task_id, version)]
        if fields:
            due[ls_id] = fields
    return due
