"""What Redis knows: jobs that wait, run or failed, and the workers that are alive. Only looks; cleans nothing up."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import redis
from rq import Queue
from rq.utils import as_text, utcparse
from rq.worker_registration import get_keys

from maskloop_learner.pool.schema import utcnow
from maskloop_queue.jobs import fetch
from maskloop_queue.queues import gpu_queue, training_queue
from maskloop_queue.valkey import ValkeyError

KINDS = {"rank": "ranking", "score": "drawing masks", "embed": "comparing images", "round": "training"}
"""What the id of a job begins with -> what it does."""
READ = 5000
"""Waiting jobs that are looked at one by one; what is more is only counted."""
FAILED = 5
"""Failed jobs of a queue whose words are read."""


@dataclass(frozen=True)
class JobKind:
    """Jobs of one kind, for one prediction version, project or round."""

    kind: str
    """rank, score, embed, round, or other."""
    subject: str
    """A prediction version; `projectN` with the project's id in the pool; a round's number."""

    @classmethod
    def of(cls, job_id: str) -> "JobKind":
        """What the id of a job says."""
        kind, _, rest = job_id.partition("-")
        if kind not in KINDS or not rest:
            return cls("other", "")
        # A version has a hyphen of its own; what follows the last one is the image, or the attempt.
        return cls(kind, rest.rpartition("-")[0])

    @property
    def words(self) -> str:
        """What it does."""
        return KINDS.get(self.kind, "other work")


@dataclass(frozen=True, kw_only=True)
class FailedJob:
    """A job that ended in an error, as long as Redis keeps it."""

    job: str
    what: JobKind
    message: str
    """The last line of what it said."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One queue."""

    name: str
    """gpu or training."""
    queued: int
    started: int
    failed: int
    workers: int
    """That are alive."""
    waiting: Counter[JobKind]
    """Of the first `READ` that wait."""
    working: tuple[JobKind, ...]
    """At work, or taken just now."""
    failures: tuple[FailedJob, ...]

    @property
    def kinds(self) -> list[tuple[str, int]]:
        """What waits, in words, and how much of each; the most first."""
        found: Counter[str] = Counter()
        for what, number in self.waiting.items():
            found[what.words] += number
        return found.most_common()


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A process that takes jobs."""

    name: str
    queue: str
    host: str
    pid: int | None
    state: str
    """idle, busy or suspended."""
    job: JobKind | None
    """What it works on."""
    heartbeat: datetime | None
    born: datetime | None
    done: int
    """Jobs that it finished."""
    failed: int

    def is_late(self, lease: float) -> bool:
        """Whether its last sign of life is older than half of `worker_lease`, in seconds: it may hang."""
        return self.heartbeat is None or utcnow() - self.heartbeat > timedelta(seconds=lease / 2)


@dataclass(frozen=True)
class Queues:
    """All of it at one moment, or why it cannot be had."""

    down: str | None = None
    """Why Redis does not answer; None: it does."""
    lines: tuple[Line, ...] = ()
    workers: tuple[Worker, ...] = ()

    @property
    def subjects(self) -> set[str]:
        """All versions, projects and rounds that anything waits or runs for."""
        found = {what.subject for line in self.lines for what in (*line.waiting, *line.working)}
        return found | {worker.job.subject for worker in self.workers if worker.job is not None}

    def waiting(self, kind: str, subjects: Sequence[str]) -> int:
        """Jobs of a kind that wait or run for any of these."""
        found = [(what, number) for line in self.lines for what, number in line.waiting.items()]
        found += [(what, 1) for line in self.lines for what in line.working]
        return sum(number for what, number in found if what.kind == kind and what.subject in subjects)


def read_queues(conn: redis.Redis) -> Queues:
    """Look at both queues and at their workers; that Redis is away is an answer too."""
    try:
        queues = gpu_queue(conn), training_queue(conn)
        workers = [_read_workers(queue) for queue in queues]
        lines = tuple(_read_line(queue, len(mine)) for queue, mine in zip(queues, workers, strict=True))
    except (redis.RedisError, ValkeyError) as error:
        return Queues(down=str(error))
    return Queues(lines=lines, workers=tuple(worker for mine in workers for worker in mine))


def _read_line(queue: Queue, workers: int) -> Line:
    with queue.connection.pipeline() as pipeline:
        pipeline.llen(queue.key)
        pipeline.lrange(queue.key, 0, READ - 1)
        pipeline.lrange(queue.intermediate_queue_key, 0, READ - 1)
        pipeline.zrange(queue.started_job_registry.key, 0, READ - 1)
        pipeline.zcard(queue.failed_job_registry.key)
        pipeline.zrevrange(queue.failed_job_registry.key, 0, FAILED - 1)
        queued, waiting, taken, started, failed, last = pipeline.execute()
    # A started job stands there with the id of its execution.
    running = {as_text(item).split(":")[0] for item in started}
    # A job that was taken is in both lists for a moment.
    working = sorted(running | {as_text(item) for item in taken})
    return Line(
        name=queue.name,
        queued=queued,
        started=len(working),
        failed=failed,
        workers=workers,
        waiting=Counter(JobKind.of(as_text(item)) for item in waiting),
        working=tuple(JobKind.of(job_id) for job_id in working),
        failures=tuple(_read_failure(queue, as_text(job_id)) for job_id in last),
    )


def _read_failure(queue: Queue, job_id: str) -> FailedJob:
    job = fetch(queue.connection, job_id)
    result = job.latest_result() if job is not None else None
    lines = (result.exc_string or "").strip().splitlines() if result is not None else []
    said = lines[-1].strip() if lines else "its worker died, or Redis keeps no more of it"
    return FailedJob(job=job_id, what=JobKind.of(job_id), message=said)


def _read_workers(queue: Queue) -> list[Worker]:
    keys = sorted(as_text(key) for key in get_keys(queue))
    with queue.connection.pipeline() as pipeline:
        for key in keys:
            pipeline.hgetall(key)
            pipeline.smembers(f"{key}:executions")
        found = pipeline.execute()
    rows = zip(keys, found[::2], found[1::2], strict=True)
    # One whose record has expired is dead; the janitor strikes it off the list.
    return [_read_worker(key.rpartition(":")[2], queue.name, row, jobs) for key, row, jobs in rows if row]


def _read_worker(name: str, queue: str, row: dict[bytes, bytes], jobs: set[bytes]) -> Worker:
    fields = {as_text(key): value.decode(errors="replace") for key, value in row.items()}
    job = min((as_text(each).split(":")[0] for each in jobs), default=None)
    pid = fields.get("pid", "")
    return Worker(
        name=name,
        queue=queue,
        host=fields.get("hostname", ""),
        pid=int(pid) if pid.isdigit() else None,
        state=fields.get("state", "unknown"),
        job=JobKind.of(job) if job is not None else None,
        heartbeat=_moment(fields.get("last_heartbeat")),
        born=_moment(fields.get("birth")),
        done=_count(fields.get("successful_job_count")),
        failed=_count(fields.get("failed_job_count")),
    )


def _moment(text: str | None) -> datetime | None:
    try:
        return utcparse(text) if text else None
    except ValueError:
        return None  # another release wrote it otherwise


def _count(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
