"""The two queues: what is put into them, each piece of work once, and what is known about it."""

import re
from typing import Any

import redis
from rq import Queue, Retry
from rq.command import send_stop_job_command
from rq.exceptions import DuplicateJobError, InvalidJobOperation, NoSuchJobError
from rq.registry import StartedJobRegistry
from rq.worker_registration import get_keys

from maskloop_queue.jobs import MaskloopJob, fetch

GPU = "gpu"
TRAINING = "training"
SCORE_TIMEOUT = 600
ROUND_TIMEOUT = 24 * 3600
SCORE_FAILURE_TTL = 60
"""Seconds for which a failed scoring is remembered, and not enqueued again."""
ROUND_FAILURE_TTL = 300
"""The same for a round's job; what went wrong stays in the pool."""
RETRIES = 3
"""How often a job whose worker died is given to another."""
_DIGEST_CHARS = 32
_SAFE = re.compile(r"[A-Za-z0-9_-]+")
# An image that a person waits for overtakes the others when it is queued already, and keeps its place when these
# take turns (see `turns`). Returns whether it was.
_TO_FRONT = """
if redis.call('LREM', KEYS[1], 0, ARGV[1]) > 0 then
  if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('HSET', KEYS[2], 'enqueue_at_front_on_retry', 1) end
  return redis.call('LPUSH', KEYS[1], ARGV[1])
end
"""


def gpu_queue(conn: redis.Redis) -> Queue:
    """The queue of predictions."""
    return Queue(GPU, connection=conn, job_class=MaskloopJob, serializer="json", default_timeout=SCORE_TIMEOUT)


def training_queue(conn: redis.Redis) -> Queue:
    """The queue of training rounds."""
    return Queue(TRAINING, connection=conn, job_class=MaskloopJob, serializer="json", default_timeout=ROUND_TIMEOUT)


def score_job_id(version_id: str, image_digest: str, prompts: str = "", *, kind: str = "score") -> str:
    """The id of the job that predicts this image with this version. ValueError for what RQ cannot have in an id."""
    question = "_".join(filter(None, (image_digest[:_DIGEST_CHARS], prompts)))
    job_id = f"{kind}-{version_id}-{question}"
    if not _SAFE.fullmatch(job_id):
        raise ValueError(
            f"version {version_id!r}, digest {image_digest!r} or {prompts!r} has characters beyond A-Z a-z 0-9 _ -"
        )
    return job_id


def enqueue_score(
    conn: redis.Redis,
    version_id: str,
    image_digest: str,
    prompts: str = "",
    *,
    deadline: float | None = None,
    front: bool = False,
) -> bool:
    """Ask for one prediction; return whether it is newly queued (False: it was queued, running or failed just now).

    `prompts` names what is asked of the image, see `Task.prompt_digest`.

    `deadline` is Unix time in seconds: later than that the job is dropped. `front` puts it, or the job that is
    queued already, before all others, and tries again at once what has failed.
    """
    queue, job_id = gpu_queue(conn), score_job_id(version_id, image_digest, prompts)
    for _ in range(2):
        try:
            queue.enqueue_call(
                "maskloop_queue.jobs.score_image",
                args=(version_id, image_digest, deadline, prompts),
                job_id=job_id,
                unique=True,
                at_front=front,
                result_ttl=0,
                failure_ttl=SCORE_FAILURE_TTL,
                retry=Retry(max=RETRIES, enqueue_at_front=front),
            )
        except DuplicateJobError:
            if not front or conn.eval(_TO_FRONT, 2, queue.key, MaskloopJob.key_for(job_id), job_id):
                return False
            job = fetch(conn, job_id)
            if job is None or not (job.is_failed or job.is_stopped):
                return False
            job.delete()
        else:
            return True
    return False


def enqueue_rank(conn: redis.Redis, version_id: str, image_digest: str, prompts: str = "") -> bool:
    """Ask for one rank; return whether it is newly queued (False: it was queued, running or failed just now)."""
    try:
        gpu_queue(conn).enqueue_call(
            "maskloop_queue.jobs.rank_image",
            args=(version_id, image_digest, prompts),
            job_id=score_job_id(version_id, image_digest, prompts, kind="rank"),
            unique=True,
            result_ttl=0,
            failure_ttl=SCORE_FAILURE_TTL,
            retry=Retry(max=RETRIES),
        )
    except DuplicateJobError:
        return False
    return True


def embedding_line(project_id: int) -> str:
    """What stands for the version in the ids of a project's jobs that embed images, so that these take turns too."""
    return f"project{project_id}"


def enqueue_embedding(conn: redis.Redis, project_id: int, image_digest: str, backbone: str) -> bool:
    """Ask for an image to be embedded; return whether it is newly queued (False: as for `enqueue_rank`)."""
    try:
        gpu_queue(conn).enqueue_call(
            "maskloop_queue.jobs.embed_image",
            args=(image_digest, backbone),
            job_id=score_job_id(embedding_line(project_id), image_digest, kind="embed"),
            unique=True,
            result_ttl=0,
            failure_ttl=SCORE_FAILURE_TTL,
            retry=Retry(max=RETRIES),
        )
    except DuplicateJobError:
        return False
    return True


def enqueue_round(conn: redis.Redis, round_id: int, attempt: int) -> bool:
    """Ask for a training round to be worked on; return whether this attempt is newly queued."""
    try:
        training_queue(conn).enqueue_call(
            "maskloop_queue.jobs.train_round",
            args=(round_id,),
            job_id=f"round-{round_id}-{attempt}",
            unique=True,
            result_ttl=0,
            failure_ttl=ROUND_FAILURE_TTL,
            retry=Retry(max=RETRIES, enqueue_at_front=True),
        )
    except DuplicateJobError:
        return False
    return True


def live_job_ids(queue: Queue) -> set[str]:
    """Jobs that are queued or being worked on, at one moment."""
    with queue.connection.pipeline() as pipeline:
        pipeline.lrange(queue.key, 0, -1)
        pipeline.lrange(queue.intermediate_queue_key, 0, -1)
        pipeline.zrange(StartedJobRegistry(queue=queue).key, 0, -1)
        queued, taken, started = pipeline.execute()
    return {item.decode() for item in [*queued, *taken]} | {item.decode().split(":")[0] for item in started}


def _round_jobs(conn: redis.Redis) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for job_id in sorted(live_job_ids(training_queue(conn))):
        match = re.fullmatch(r"round-(\d+)-\d+", job_id)
        if match and conn.exists(MaskloopJob.key_for(job_id)):
            found.setdefault(int(match[1]), []).append(job_id)
    return found


def live_round_jobs(conn: redis.Redis) -> set[int]:
    """Rounds that have a job queued or at work; a round that should run and is not here has lost its job.

    Read this before the round's state: a round ends in the pool before its job goes away.
    """
    return set(_round_jobs(conn))


def cancel_round(conn: redis.Redis, round_id: int) -> int:
    """Take the round's queued jobs away and kill its running one; return how many there were.

    The round itself is to be ended in the pool first, or it would be enqueued anew.
    """
    job_ids = _round_jobs(conn).get(round_id, [])
    for job_id in job_ids:
        job = fetch(conn, job_id)
        if job is None:
            continue
        if job.is_queued:
            job.delete()
            continue
        try:
            send_stop_job_command(conn, job_id, serializer="json")
        except (InvalidJobOperation, NoSuchJobError):
            continue  # it has ended meanwhile
    return len(job_ids)


def job_progress(conn: redis.Redis, round_id: int) -> dict[str, Any] | None:
    """What the round's running job last reported: {"step", "steps", "loss", "eta"}; None when none is at work."""
    for job_id in _round_jobs(conn).get(round_id, []):
        job = fetch(conn, job_id)
        if job is not None and job.meta:
            return dict(job.meta)
    return None


def pending_jobs(conn: redis.Redis) -> dict[str, dict[str, int]]:
    """Per queue the number of jobs queued, started and failed, and of workers. Only counts; cleans nothing up."""
    return {
        queue.name: {
            "queued": queue.count,
            "started": queue.started_job_registry.get_job_count(cleanup=False),
            "failed": queue.failed_job_registry.get_job_count(cleanup=False),
            "workers": len(get_keys(queue)),
        }
        for queue in (gpu_queue(conn), training_queue(conn))
    }
