"""A worker process from start to end: it outlasts restarts of Redis and ends on SIGTERM after the job at hand."""

import importlib
import logging
import os
import signal
import socket
import threading
import time
from typing import Literal
from uuid import uuid4

import redis

from maskloop_learner.settings import Settings
from maskloop_queue.connection import connect
from maskloop_queue.gpu import GpuWorker
from maskloop_queue.processes import Beat, die_with_parent, set_threads
from maskloop_queue.queues import gpu_queue, training_queue
from maskloop_queue.running import Place, enter
from maskloop_queue.training import TrainingWorker

log = logging.getLogger(__name__)
Kind = Literal["gpu", "training"]
PATIENCE = 10.0
"""Seconds for which a single call to Redis is tried again."""
OUTAGE = 120.0
"""Seconds without Redis after which a worker gives up; the supervisor starts it anew."""
_QUICK_END = 10.0
_MAX_QUICK_ENDS = 5


def run_worker(kind: Kind, settings: Settings, *, preload: str | None = "maskloop_learner.predict.predictor") -> int:
    """Work until SIGTERM or SIGINT (then 0); 1 when Redis stays away or the worker fails again and again.

    `preload` is imported before a GPU worker takes its first job.
    """
    die_with_parent()
    set_threads(settings.gpu_threads if kind == "gpu" else settings.training_threads)
    logging.getLogger("rq").setLevel(logging.WARNING)
    beat, stop = Beat.of_process(), threading.Event()
    beat.touch()
    _stop_on_signal(stop)
    place = Place(settings)
    if kind == "gpu":
        enter(place)
        if preload:
            # So that no lease runs out on the import of torch. The training worker must never import that.
            importlib.import_module(preload)
    quick_ends = 0
    while not stop.is_set():
        conn = connect(settings, patience=PATIENCE, hurry=stop.is_set)
        if not _wait_for_redis(conn, beat, stop):
            return 0 if stop.is_set() else 1
        started = time.monotonic()
        worker = _build(kind, conn, settings, beat, stop)
        place.on_progress = worker.progress if isinstance(worker, GpuWorker) else place.on_progress
        try:
            worker.work(logging_level="WARNING")
        except redis.RedisError as error:
            log.warning("lost Redis: %s", error)
        _stop_on_signal(stop)
        conn.close()
        if stop.is_set():
            break
        quick_ends = quick_ends + 1 if time.monotonic() - started < _QUICK_END else 0
        if quick_ends >= _MAX_QUICK_ENDS:
            log.error("the %s worker ended %d times in a row within %g s: giving up", kind, quick_ends, _QUICK_END)
            return 1
        stop.wait(0.2 * 2**quick_ends)
    log.info("the %s worker has stopped", kind)
    return 0


def _build(
    kind: Kind, conn: redis.Redis, settings: Settings, beat: Beat, stop: threading.Event
) -> GpuWorker | TrainingWorker:
    # A name of its own for every life: RQ refuses one that a killed worker still holds.
    name = f"{kind}-{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
    if kind == "gpu":
        return GpuWorker(gpu_queue(conn), name=name, settings=settings, beat=beat, stop=stop)
    return TrainingWorker(training_queue(conn), name=name, settings=settings, beat=beat, stop=stop)


def _stop_on_signal(stop: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())


def _wait_for_redis(conn: redis.Redis, beat: Beat, stop: threading.Event) -> bool:
    """Whether Redis answers; waits `OUTAGE` seconds for it."""
    end = time.monotonic() + OUTAGE
    while not stop.is_set():
        beat.touch()
        try:
            conn.ping()
        except redis.RedisError as error:
            if time.monotonic() > end:
                log.error("no Redis for %.0f s, giving up: %s", OUTAGE, error)
                return False
            log.warning("waiting for Redis: %s", error)
            stop.wait(1.0)
        else:
            return True
    return False
