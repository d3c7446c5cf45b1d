"""Waits until Label Studio serves what was decided here."""

import time

from maskloop_backend import outlook
from maskloop_backend.outlook import Outlook
from maskloop_learner.pool.pool import Pool
from maskloop_learner.settings import get_settings

PATIENCE = 60.0
"""Seconds without any progress after which waiting ends."""
POLL = 0.1
NOT_SERVED = (
    f"the change is made, but Label Studio does not serve it yet and nothing has moved for {PATIENCE:.0f} s; "
    "`maskloop doctor` says what is missing"
)


def tell_sync(ls_id: int) -> bool:
    """Have sync look at the project now; False where Redis is not there, so that nobody hears it."""
    return outlook.tell_sync(get_settings(), ls_id)


def wait_served(pool: Pool, project_id: int, version: str) -> float | None:
    """Seconds until Label Studio serves the version; None when nothing moves for `PATIENCE` seconds."""
    started = moved = time.monotonic()
    last: Outlook | None = None
    while True:
        now = Outlook.of(pool, project_id, version)
        if now.served:
            return time.monotonic() - started
        if now != last:
            last, moved = now, time.monotonic()
        if time.monotonic() - moved > PATIENCE:
            return None
        time.sleep(POLL)
