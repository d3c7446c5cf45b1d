"""The warm worker of predictions."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import redis
from rq import Queue, SimpleWorker
from rq.executions import Execution
from rq.job import Job
from rq.worker.base import WorkerStatus

from maskloop_queue.lifecycle import Leased
from maskloop_queue.politeness import announced

log = logging.getLogger(__name__)


class GpuWorker(Leased, SimpleWorker):
    """Runs jobs in its own process, where models stay warm. Its lease on a job lasts while the job makes progress."""

    _progress_at = 0.0

    def progress(self) -> None:
        """The job gets on. Called by the main thread only."""
        self._progress_at = time.monotonic()
        self.beat.touch()

    def subscribe(self) -> None:
        """Listens to no commands: RQ's make sense for forking workers only."""

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run the job; another thread renews the lease as long as there is progress."""
        self.progress()
        execution = self.prepare_execution(job)
        waited_for = announced(self.connection, job.id) if job.enqueue_at_front_on_retry else nullcontext()
        with waited_for, self._renewed(job, execution):
            self.perform_job(job, queue, execution)
        self.set_state(WorkerStatus.IDLE)

    @contextmanager
    def _renewed(self, job: Job, execution: Execution) -> Iterator[None]:
        done = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(job, execution, done), name="lease", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join(timeout=self.lease)

    def _keep(self, job: Job, execution: Execution, done: threading.Event) -> None:
        while not done.wait(max(0.3, self.lease / 6)):
            left = int(self._progress_at + self.lease - time.monotonic())
            if left < 1:
                continue  # it hangs, or is too slow: the lease runs out, unless progress comes back first
            try:
                self.renew(job, execution, left)
            except redis.RedisError as error:
                log.warning("the lease on %s could not be renewed: %s", job.id, error)
