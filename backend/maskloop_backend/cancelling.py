"""A training is ended by a person: within seconds, whatever its process is busy with."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import redis

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project
from maskloop_learner.settings import Settings
from maskloop_queue.leftovers import sweep_rounds
from maskloop_queue.queues import cancel_round, live_round_jobs
from maskloop_queue.valkey import ValkeyError

GRACE = 2.0
"""Seconds in which a training ends by itself, after the step at hand; then its process is killed."""
PATIENCE = 3.0
"""Seconds for the killed process's worker to say so."""


class NothingToCancel(RuntimeError):
    """The project has no training that is queued, running or asked for."""


@dataclass(frozen=True)
class Cancelled:
    """What was ended."""

    round: int | None
    """None: no round was open."""
    wishes: int
    """Requests that waited for a round, and were withdrawn."""
    ended: bool
    """Whether nothing works on the round any more; else it ends after its step."""
    killed: bool
    seconds: float


def cancel_training(
    pool: Pool, conn: redis.Redis, settings: Settings, project: Project, *, by: str, seen: int | None = None
) -> Cancelled:
    """End a project's open round and its process, and withdraw what was asked for. NothingToCancel when there is none.

    seen: the round that is meant, 0 where only wishes are, None: whatever is open; RoundChanged when it is another.
    Without Redis the round is ended all the same: its process sees it after the step at hand.
    """
    from maskloop_queue import rounds  # only who cancels needs the training's code

    started = time.monotonic()
    round_id, wishes = rounds.cancel_project(pool, project.id, by=by, seen=seen)
    if round_id is None and not wishes:
        raise NothingToCancel(f"no training of project {project.ls_id} ({project.title}) is queued or running")
    ended, killed = True, False
    if round_id is not None:
        try:
            ended = _wait(lambda: round_id not in live_round_jobs(conn), GRACE)
            if not ended:
                killed = cancel_round(conn, round_id) > 0
                ended = _wait(lambda: round_id not in live_round_jobs(conn), PATIENCE)
        except (redis.RedisError, ValkeyError):
            ended = False
    # The process of a killed round left its checkpoint; on another machine its worker removes it.
    sweep_rounds(pool, settings.home)
    return Cancelled(round_id, wishes, ended, killed, round(time.monotonic() - started, 1))


def _wait(check: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
