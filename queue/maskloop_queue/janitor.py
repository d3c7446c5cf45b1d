"""The one clean-up of the queues. `sync` calls it every few seconds; two at once would enqueue a lost job twice."""

import logging
import time

import redis
from rq import Queue
from rq.job import JobStatus
from rq.utils import as_text
from rq.worker_registration import clean_worker_registry

from maskloop_queue import KEY_PREFIX
from maskloop_queue.jobs import MaskloopJob, fetch
from maskloop_queue.queues import gpu_queue, live_job_ids, training_queue

log = logging.getLogger(__name__)
TAKEN_GRACE = 10.0
"""Seconds a job may be between the queue and the list of started ones before it counts as lost."""
CLOCKS_APART = 60.0
"""Seconds by which the clocks of two machines may differ."""
SWEEP_EVERY = 60
"""Seconds between two searches for jobs that are in no list at all."""
_LOCK_SECONDS = 15
"""Far more than one clean-up takes; so long a killed one keeps others waiting."""
# In one step, so that a worker that starts the job just now and this clean-up cannot both have it.
_GIVE_BACK = "if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 1 then redis.call('LPUSH', KEYS[2], ARGV[1]) end"


def clean(conn: redis.Redis, *, lease: float = 600.0) -> None:
    """Give jobs of dead workers back to their queue, forget dead workers and what blocks a job's return.

    `lease` is `worker_lease`, in seconds: a job's lease that ends later was written by a clock that was wrong.
    Does nothing while another process is at it. RedisError when Redis is down.
    """
    lock = conn.lock(f"{KEY_PREFIX}:janitor", timeout=_LOCK_SECONDS, blocking=False)
    if not lock.acquire():
        return
    try:
        for queue in (gpu_queue(conn), training_queue(conn)):
            _bound_leases(queue, lease)
            # Leases that ran out: back to the queue, or failed when that has happened too often.
            queue.started_job_registry.cleanup()
            _give_back_taken(queue)
            queue.failed_job_registry.cleanup()
            clean_worker_registry(queue)
        if conn.set(f"{KEY_PREFIX}:janitor:swept", 1, nx=True, ex=SWEEP_EVERY):
            _sweep(conn)
    finally:
        if lock.owned():
            lock.release()


def _bound_leases(queue: Queue, lease: float) -> None:
    """After the clock was set back a dead worker's lease would last until that hour comes again."""
    key, latest = queue.started_job_registry.key, time.time() + lease + CLOCKS_APART
    found = queue.connection.zrangebyscore(key, f"({latest}", "+inf")
    ahead = [member for member in found if isinstance(member, bytes)]
    if ahead:
        log.warning("%d leases on jobs of the queue %s end too late: shortened", len(ahead), queue.name)
        # A worker that lives renews its own.
        queue.connection.zadd(key, dict.fromkeys(ahead, latest), xx=True, lt=True)


def _give_back_taken(queue: Queue) -> None:
    """A worker that dies right after taking a job leaves it in the intermediate list only."""
    conn, seen_key = queue.connection, f"{KEY_PREFIX}:janitor:taken:{queue.name}"
    started = set(queue.started_job_registry.get_job_ids(cleanup=False))
    taken = {job_id for job_id in queue.intermediate_queue.get_job_ids() if job_id not in started}
    seen = {as_text(job_id): float(at) for job_id, at in conn.hgetall(seen_key).items()}
    gone = [job_id for job_id in seen if job_id not in taken]
    if gone:
        conn.hdel(seen_key, *gone)
    for job_id in taken:
        job = fetch(conn, job_id)
        if job is None or job.get_status(refresh=False) != JobStatus.QUEUED:
            # It has ended or is gone; only its name was left behind.
            conn.lrem(queue.intermediate_queue_key, 1, job_id)
        elif job_id not in seen:
            conn.hset(seen_key, job_id, time.time())
        elif not 0 <= time.time() - seen[job_id] <= TAKEN_GRACE:
            log.warning("job %s was taken by a worker that died at once: back to the queue", job_id)
            conn.eval(_GIVE_BACK, 2, queue.intermediate_queue_key, queue.key, job_id)


def _sweep(conn: redis.Redis) -> None:
    """Delete job records that no list knows, as a crash in the wrong moment leaves them: they block their id."""
    suspects_key = f"{KEY_PREFIX}:janitor:suspects"
    prefix = MaskloopJob.key_for("")
    records = {as_text(key).removeprefix(prefix) for key in conn.scan_iter(f"{prefix}*", count=1000)}
    # RQ keeps other things of a job under longer names (its dependents); those are not records.
    records = {job_id for job_id in records if ":" not in job_id}
    known: set[str] = set()
    for queue in (gpu_queue(conn), training_queue(conn)):
        known |= live_job_ids(queue) | set(queue.failed_job_registry.get_job_ids(cleanup=False))
    suspects = records - known
    # Only what was suspect at the last sweep too: a job enqueued between the two readings above is not lost.
    before = {as_text(member) for member in conn.smembers(suspects_key)}
    lost = suspects & before
    for job_id in lost:
        log.warning("job %s was in no queue: its record is deleted", job_id)
        conn.delete(MaskloopJob.key_for(job_id))
    conn.delete(suspects_key)
    if suspects - lost:
        conn.sadd(suspects_key, *(suspects - lost))
