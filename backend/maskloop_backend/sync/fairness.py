"""Projects share the GPU workers: none waits until another's ten thousand images are done."""

import redis
from sqlalchemy import select

from maskloop_backend.sync.work import JOBS_AHEAD, enqueue_missing
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Project
from maskloop_queue.queues import embedding_line
from maskloop_queue.turns import take_turns, waiting_jobs

JOBS_IN_ALL = 4 * JOBS_AHEAD
"""Images of all projects together that wait in the queue; four projects have as many ahead as one."""
LEAST_AHEAD = 8
"""Of one project, however many there are."""


def enqueue_fairly(pool: Pool, conn: redis.Redis, project_id: int) -> int:
    """Enqueue predictions that the project lacks, and let all projects' jobs take turns; return as `enqueue_missing`.

    A project that comes last waits for one short run of each other's, not for all that they have ahead.
    """
    with pool.read() as session:
        rows = session.execute(select(Champion.project_id, Champion.version_id))
        served = {project: version for project, version in rows}  # noqa: C416 - typed rows
        lines = [embedding_line(project) for project in session.scalars(select(Project.id))]
    if project_id not in served:
        return 0
    busy = waiting_jobs(conn).keys() & set(served.values()) | {served[project_id]}
    limit = max(LEAST_AHEAD, min(JOBS_AHEAD, JOBS_IN_ALL // len(busy)))
    missing = enqueue_missing(pool, conn, project_id, limit=limit)
    if missing:
        take_turns(conn, [*served.values(), *lines])
    return missing
