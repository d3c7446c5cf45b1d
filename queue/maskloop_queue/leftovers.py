"""What killed trainings left in the home folder: checkpoints of rounds that have ended."""

import fcntl
import logging
import re
import shutil
from pathlib import Path

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Round

log = logging.getLogger(__name__)


def sweep_rounds(pool: Pool, home: Path, *, dry_run: bool = False) -> int:
    """Remove the folders of rounds that have ended, and half-written checkpoints of the others; return how many.

    A folder that a process holds is left to that process.
    """
    swept = 0
    for folder in sorted((home / "training").glob("round-*")):
        match = re.fullmatch(r"round-(\d+)", folder.name)
        if match is None:
            continue
        with pool.read() as session:
            row = session.get(Round, int(match[1]))
        ended = row is None or row.state not in ("queued", "running")
        left = [folder] if ended else sorted(folder.glob(".checkpoint.pt.*"))
        if not left or _is_held(folder):
            continue
        swept += len(left)
        for path in [] if dry_run else left:
            log.info("%s is left over and goes", path)
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    return swept


def _is_held(folder: Path) -> bool:
    try:
        with open(folder / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
