"""Who works on a round: a lease in the pool that holds on every machine, besides a lock that the kernel keeps on one.

The holder renews its lease while it gets on. Only the holder publishes: who lost the lease ends without a trace.
"""

import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

from sqlalchemy.orm import Session

from maskloop_learner.pool.schema import Round
from maskloop_learner.settings import Settings
from maskloop_queue.processes import machine
from maskloop_queue.timing import has_come


class RoundBusy(RuntimeError):
    """Another process is at work on the same round. `until` is when it is worth another look."""

    def __init__(self, message: str, *, until: datetime) -> None:
        super().__init__(message)
        self.until = until


def lease_of(settings: Settings) -> timedelta:
    """How long a round stays with a holder that says nothing: such a process is killed for hanging before that."""
    return timedelta(seconds=settings.hang_timeout + settings.worker_lease)


def new_holder(folder: Path) -> str:
    """A name for this process as holder: host, process id, the place of its locks, and a token of its own."""
    return f"{socket.gethostname()[:100]} {os.getpid()} {_place(folder)} {uuid4().hex}"


def _place(folder: Path) -> str:
    """The same for all processes whose locks in `folder` exclude each other: one kernel, one folder."""
    found = folder.stat()
    return hashlib.sha256(f"{machine()} {found.st_dev} {found.st_ino}".encode()).hexdigest()[:16]


@contextmanager
def hold_folder(folder: Path, *, until: datetime) -> Iterator[None]:
    """Hold a round's folder for this process; it is made when it lacks. Raises RoundBusy when another has it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            # The kernel frees this lock when the holder is killed, whatever Redis and the pool believe.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RoundBusy(f"another process is at work in {folder}; it goes on", until=until) from error
        yield


def take(row: Round, holder: str, *, now: datetime, lease: timedelta) -> None:
    """Make `holder` the round's, which has the lock in its place already. Raises RoundBusy when another has the lease.

    To be called within a transaction that has locked the row.
    """
    if row.state == "running" and row.holder and row.held_until:
        host, pid, place, _ = row.holder.split()
        # One of the same place is dead, or it would have the lock. Twice: the clocks of two machines may differ.
        gone = place == holder.split()[2] or has_come(row.held_until, now=now, longest=2 * lease)
        if not gone:
            raise RoundBusy(f"process {pid} on {host} is at work on round {row.id}", until=row.held_until)
    row.holder, row.held_until = holder, now + lease


def release(row: Round) -> None:
    """Let go of a round that is to be taken up again."""
    row.holder, row.held_until = None, None


def held(session: Session, round_id: int, holder: str) -> Round | None:
    """The round, locked until the transaction ends, if it runs and is still the holder's; else None."""
    row = session.get_one(Round, round_id, with_for_update=True)
    return row if row.state == "running" and row.holder == holder else None
