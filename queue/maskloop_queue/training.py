"""The worker of training rounds: one forked child per job."""

import logging
import os
import signal
import struct
import time
from mmap import mmap
from typing import Any

import redis
from rq import Queue, Worker
from rq.executions import Execution
from rq.job import Job

from maskloop_queue.lifecycle import Leased
from maskloop_queue.processes import die_with_parent, set_threads
from maskloop_queue.running import Place, enter

log = logging.getLogger(__name__)
NICENESS = 10


class SharedMoment:
    """A moment that a process and its forked children both see and set."""

    def __init__(self) -> None:
        self._memory = mmap(-1, 8)
        self.set()

    def set(self) -> None:
        """Make it now."""
        self._memory[:] = struct.pack("d", time.monotonic())

    def age(self) -> float:
        """Seconds since it was set."""
        return time.monotonic() - float(struct.unpack("d", self._memory[:])[0])


class TrainingWorker(Leased, Worker):
    """Forks a process for each job: it frees all memory at its end, can be killed, and dies with this worker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._horse_progress = SharedMoment()

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Fork, watch over the child, and leave no child behind whatever happens."""
        self._horse_progress.set()
        try:
            super().execute_job(job, queue)
        except BaseException:
            if self.horse_pid:
                self.kill_horse()
                self.wait_for_horse()
            raise

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Called every few seconds while the child works: keep its lease, or kill it when it hangs."""
        self.beat.touch()
        silent = self._horse_progress.age()
        if silent > self.settings.hang_timeout:
            log.error("%s has shown no progress for %.0f s: killing its process %d", job.id, silent, self.horse_pid)
            self.kill_horse()
            return
        try:
            self.renew(job, execution, self.lease)
        except redis.RedisError as error:
            # The training itself needs no Redis; a lease lost meanwhile costs a second, empty run.
            log.warning("the lease on %s could not be renewed: %s", job.id, error)

    def handle_warm_shutdown_request(self) -> None:
        """Ask the child to come to a point where the training can go on later."""
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]
        if self.horse_pid:
            self.kill_horse(signal.SIGTERM)

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        """The child's life. It inherits nothing in use: no database, no connection, no torch."""
        assert self.pid is not None
        die_with_parent(signal.SIGKILL, parent=self.pid)
        os.nice(NICENESS)
        set_threads(self.settings.training_threads)
        self.connection.connection_pool.reset()
        enter(Place(self.settings, on_progress=self._horse_progress.set, should_stop=self.stop.is_set))
        super().main_work_horse(job, queue)

    def setup_work_horse_signals(self) -> None:
        """In the child: SIGTERM asks the training to stop, it does not kill it."""
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call]
        signal.signal(signal.SIGTERM, lambda *_: self.stop.set())
