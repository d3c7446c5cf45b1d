"""Waits until Label Studio serves what was decided here."""

import time
from dataclasses import dataclass

from redis import RedisError

from maskloop_backend.sync.returning import may_return
from maskloop_backend.sync.work import waiting_tasks
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project
from maskloop_learner.settings import get_settings
from maskloop_queue.valkey import ValkeyError

PATIENCE = 60.0
"""Seconds without any progress after which waiting ends."""
POLL = 0.1
NOT_SERVED = (
    f"the change is made, but Label Studio does not serve it yet and nothing has moved for {PATIENCE:.0f} s; "
    "`maskloop doctor` says what is missing"
)


@dataclass(frozen=True)
class Progress:
    """What is left to be done before a version can be served."""

    waiting: int
    """Unlabelled images that it has not predicted."""
    returns: bool
    """Label Studio has its predictions from before."""
    served: bool

    @classmethod
    def of(cls, pool: Pool, project_id: int, version: str) -> "Progress":
        """How it stands now."""
        with pool.read() as session:
            served = session.get_one(Project, project_id).served_version == version
            return cls(waiting_tasks(session, project_id, version), may_return(session, project_id, version), served)

    @property
    def outlook(self) -> str:
        """What comes next, in words."""
        if self.served:
            return "Label Studio serves it already."
        if self.returns:
            return "Label Studio has its masks from before and switches at once."
        if self.waiting:
            return f"{self.waiting} images are drawn first; until then the masks of now are served."
        return "Its masks go to Label Studio, which then switches."


def tell_sync(ls_id: int) -> bool:
    """Have sync look at the project now; False where Redis is not there, so that nobody hears it."""
    from maskloop_queue.connection import connect
    from maskloop_queue.wake import wake

    try:
        wake(connect(get_settings()), ls_id)
    except (RedisError, ValkeyError):
        return False
    return True


def wait_served(pool: Pool, project_id: int, version: str) -> float | None:
    """Seconds until Label Studio serves the version; None when nothing moves for `PATIENCE` seconds."""
    started = moved = time.monotonic()
    last: Progress | None = None
    while True:
        now = Progress.of(pool, project_id, version)
        if now.served:
            return time.monotonic() - started
        if now != last:
            last, moved = now, time.monotonic()
        if time.monotonic() - moved > PATIENCE:
            return None
        time.sleep(POLL)
