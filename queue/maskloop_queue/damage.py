"""What a worker does when it finds a model's weights lost or altered: it sees to it that another model serves."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from redis import RedisError
from rq import get_current_job

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, PredictionVersion, Project
from maskloop_learner.settings import Settings
from maskloop_learner.train.fallback import look_after, version_fault
from maskloop_learner.train.verification import blob_fault, note_fault
from maskloop_queue.ranking import ModelBroken
from maskloop_queue.wake import wake

log = logging.getLogger(__name__)


@contextmanager
def handled(pool: Pool, settings: Settings) -> Iterator[None]:
    """Where the work in here ends on a model's broken weights, note that in the pool and let another model serve.

    The work then counts as done: nothing is asked of that model any more, so trying again would be in vain. An error
    that looking again does not confirm (the file has come back) is raised.
    """
    try:
        yield
    except ModelBroken as error:
        project = _see_to(pool, error.version_id, settings)
        with pool.read() as session:
            confirmed = version_fault(session, error.version_id)
        if confirmed is None:
            raise
        log.error("%s", error)
        _wake(project.ls_id)


def _see_to(pool: Pool, version_id: str, settings: Settings) -> Project:
    with pool.read() as session:
        version = session.get_one(PredictionVersion, version_id)
        model, project = session.get_one(Model, version.model_id), session.get_one(Project, version.project_id)
        champion = session.get(Champion, project.id)
    if champion is not None and champion.model_id == model.id:
        look_after(pool, project.id, settings)
    elif model.pruned_at is None:
        note_fault(pool, model.id, blob_fault(pool.store, "weights", model.weights_digest))
    return project


def _wake(ls_id: int) -> None:
    job = get_current_job()
    if job is None:
        return
    try:
        wake(job.connection, ls_id)
    except RedisError as error:
        log.warning("sync is not told and looks by itself in a while: %s", error)
