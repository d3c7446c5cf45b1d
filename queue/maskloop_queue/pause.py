"""A project's schedule is paused: labels and the clock start no training; a person's word still does."""

from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project, utcnow


def pause_schedule(pool: Pool, project_id: int, *, by: str) -> bool:
    """Have trainings start by a person's word alone; False when that is so already. What runs goes on."""
    with pool.write() as session:
        project = session.get_one(Project, project_id, with_for_update=True)
        if project.paused_at is not None:
            return False
        project.paused_at, project.paused_by = utcnow(), by
        record(session, "schedule.paused", project_id=project_id, data={"by": by})
        return True


def resume_schedule(pool: Pool, project_id: int, *, by: str) -> bool:
    """Have labels and the clock start trainings again, what became due meanwhile at once; False when they do."""
    with pool.write() as session:
        project = session.get_one(Project, project_id, with_for_update=True)
        if project.paused_at is None:
            return False
        project.paused_at, project.paused_by = None, ""
        record(session, "schedule.resumed", project_id=project_id, data={"by": by})
        return True
