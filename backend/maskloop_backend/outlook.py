"""What is left to be done until Label Studio serves what was decided here, and a word to sync that there is."""

from dataclasses import dataclass

from redis import RedisError

from maskloop_backend.sync.returning import may_return
from maskloop_backend.sync.work import waiting_tasks
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project
from maskloop_learner.settings import Settings
from maskloop_queue.valkey import ValkeyError


@dataclass(frozen=True)
class Outlook:
    """What is left to be done before a version can be served."""

    waiting: int
    """Unlabelled images that it has not predicted."""
    returns: bool
    """Label Studio has its predictions from before."""
    served: bool

    @classmethod
    def of(cls, pool: Pool, project_id: int, version: str) -> "Outlook":
        """How it stands now."""
        with pool.read() as session:
            if session.get_one(Project, project_id).served_version == version:
                return cls(0, False, True)
            waiting = waiting_tasks(session, project_id, version)
            return cls(waiting, may_return(session, project_id, version), False)

    @property
    def words(self) -> str:
        """What comes next."""
        if self.served:
            return "Label Studio serves it already."
        if self.returns:
            return "Label Studio has its masks from before and switches at once."
        if self.waiting:
            return f"{self.waiting} images are drawn first; until then the masks of now are served."
        return "Its masks go to Label Studio, which then switches."


def tell_sync(settings: Settings, ls_id: int, *, patience: float | None = None) -> bool:
    """Have sync look at the project now; False where Redis is not there, so that nobody hears it.

    patience: seconds for which a lost Redis is tried again; None: the queue's own.
    """
    from maskloop_queue.connection import connect
    from maskloop_queue.wake import wake

    try:
        wake(connect(settings) if patience is None else connect(settings, patience=patience), ls_id)
    except (RedisError, ValkeyError):
        return False
    return True
