"""What both kinds of worker share: their lease, their sign of life, and how they take work and stop."""

import contextlib
import threading
from typing import Any

from rq import Queue
from rq.exceptions import DequeueTimeout
from rq.executions import Execution
from rq.job import Job
from rq.utils import now
from rq.worker.base import BaseWorker, WorkerStatus
from rq.worker_registration import register

from maskloop_learner.settings import Settings
from maskloop_queue.jobs import MaskloopJob
from maskloop_queue.processes import Beat

DEQUEUE_SECONDS = 1
"""How long a worker waits for work before it shows life and looks whether it should stop."""


class Leased(BaseWorker):
    """An RQ worker whose jobs are its own for `worker_lease` seconds at a time, and which cleans nothing up."""

    def __init__(self, queue: Queue, *, name: str, settings: Settings, beat: Beat, stop: threading.Event) -> None:
        self.settings = settings
        self.beat = beat
        self.stop = stop
        self.lease = max(1, int(settings.worker_lease))
        super().__init__(
            [queue],
            name=name,
            connection=queue.connection,
            job_class=MaskloopJob,
            serializer="json",
            worker_ttl=self.lease,
            job_monitoring_interval=max(1, min(5, self.lease // 3)),
            log_job_description=False,
        )

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Never: the janitor alone cleans up, two at once enqueue a lost job twice."""
        return False

    @property
    def dequeue_timeout(self) -> int:
        """Seconds of one wait for work."""
        return DEQUEUE_SECONDS

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        """Seconds for which a job belongs to this worker without being renewed."""
        return self.lease

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Register anew for one lease, also after Redis has forgotten this worker; show life to the supervisor."""
        if threading.current_thread() is threading.main_thread():
            self.beat.touch()
        self.last_heartbeat = now()
        if self.birth_date is None:
            self.birth_date = self.last_heartbeat
        with contextlib.ExitStack() as stack:
            pipe = pipeline if pipeline is not None else stack.enter_context(self.connection.pipeline())
            pipe.hset(self.key, mapping={**self.serialize(), "state": self.get_state()})
            register(self, pipe)
            pipe.expire(self.key, self.lease)
            pipe.expire(self.executions_key, self.lease)
            if pipeline is None:
                pipe.execute()

    def renew(self, job: Job, execution: Execution, ttl: int) -> None:
        """Keep the job for `ttl` seconds more, unless it was given away already. RedisError when Redis is down."""
        with self.connection.pipeline() as pipeline:
            self.heartbeat(pipeline=pipeline)
            execution.heartbeat(job.started_job_registry, ttl, pipeline=pipeline)
            pipeline.execute()

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a job until there is one or this worker is to stop (then None). RedisError when Redis stays down."""
        self.set_state(WorkerStatus.IDLE)
        while not self.stop.is_set():
            self.heartbeat()
            try:
                found = self.queue_class.dequeue_any(
                    self.queues,
                    timeout and self.dequeue_timeout,
                    connection=self.connection,
                    job_class=self.job_class,
                    serializer=self.serializer,
                )
            except DequeueTimeout:
                continue
            if found is not None or timeout is None:
                return found
        return None

    def _shutdown(self) -> None:
        # RQ would raise out of whatever runs just now, also between taking a job and noting that it was taken.
        self.stop.set()
        self._stop_requested = True
