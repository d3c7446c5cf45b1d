"""Rollbacks: what Label Studio showed before, it shows again at once; what lacks is predicted and pushed afterwards."""

import logging

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from maskloop_backend.labelstudio.client import LabelStudioError
from maskloop_backend.sync.push import Pusher
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import drawn, servable
from maskloop_learner.pool.schema import Event, PredictionVersion, Project, Push, Task

log = logging.getLogger(__name__)

MOSTLY = 0.5
"""Share of the unlabelled tasks for which an older version's predictions must still be there."""


def switch_back(pool: Pool, pusher: Pusher, project_id: int, version: str) -> bool:
    """Have Label Studio serve a version that it served before, if its predictions are there; return whether it does.

    Label Studio may refuse: then the version is completed first, as a new one is.
    """
    with pool.read() as session:
        if not may_return(session, project_id, version):
            return False
    try:
        return pusher.switch(project_id, version)
    except LabelStudioError as error:
        log.warning("%s cannot be served again at once: %s", version, error)
        return False


def may_return(session: Session, project_id: int, version: str) -> bool:
    """Whether Label Studio served the version before and still has its predictions.

    Those of the version before the present one are kept on purpose, so images that have come since do not hold it up.
    Of an older one most must be left: a task without a prediction would come before all others.
    """
    project = session.get_one(Project, project_id)
    if project.served_version in (None, version):
        return False
    mine = Push.project_id == project_id, Push.version_id == version, Push.gone_at.is_(None)
    held = session.scalar(select(func.count(Push.task_id.distinct())).where(*mine)) or 0
    if version == project.previous_version:
        return held > 0
    made = session.get_one(PredictionVersion, version).created_at
    if not held or (project.switched_at is not None and made > project.switched_at):
        return False
    there = exists().where(Push.task_id == Task.id, *mine)
    unlabelled = select(func.count(Task.id)).where(*servable(project_id), ~drawn())
    count = session.scalar(unlabelled) or 0
    left = session.scalar(unlabelled.where(there)) or 0
    served = Event.project_id == project_id, Event.kind == "version.served", Event.subject == version
    return left >= MOSTLY * count and bool(session.scalar(select(exists().where(*served))))
