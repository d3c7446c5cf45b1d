"""Figures for Prometheus: requests as they come, the pool and the queue looked at once in some seconds."""

import logging
import threading
import time
from collections.abc import Iterable

import redis
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maskloop_backend.web.figures import pool_figures
from maskloop_learner.pool.pool import Pool
from maskloop_learner.settings import Settings
from maskloop_queue.queues import pending_jobs

logger = logging.getLogger(__name__)

KEEP = 5.0
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 100.0)
PATHS = {"/health", "/setup", "/predict", "/webhook", "/versions", "/metrics"}


class Installation(Collector):
    """What the pool and the queue hold, at most `KEEP` seconds old."""

    def __init__(self, pool: Pool, connection: redis.Redis, settings: Settings) -> None:
        self.pool, self.connection, self.settings = pool, connection, settings
        self._lock = threading.Lock()
        self._kept: list[Metric] = []
        self._until = 0.0

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._kept = [*pool_figures(self.pool, self.settings), *self._queue()]
                self._until = time.monotonic() + KEEP
            return self._kept

    def describe(self) -> Iterable[Metric]:
        return []  # or registering would already look

    def _queue(self) -> list[Metric]:
        up = GaugeMetricFamily("maskloop_queue_up", "1 when Redis answers.")
        jobs = GaugeMetricFamily("maskloop_jobs", "Jobs by queue and state.", labels=["queue", "state"])
        workers = GaugeMetricFamily("maskloop_workers", "Workers that are registered.", labels=["queue"])
        try:
            counts = pending_jobs(self.connection)
        except redis.RedisError as error:
            logger.info("metrics: Redis does not answer: %s", error)
            up.add_metric([], 0)
            return [up]
        for queue, count in counts.items():
            workers.add_metric([queue], count["workers"])
            for state in ("queued", "started", "failed"):
                jobs.add_metric([queue, state], count[state])
        up.add_metric([], 1)
        return [up, jobs, workers]


class Metrics:
    """The registry of one web process."""

    def __init__(self, pool: Pool, connection: redis.Redis, settings: Settings) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(Installation(pool, connection, settings))
        self.requests = Counter(
            "maskloop_requests", "Requests answered.", ["endpoint", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "maskloop_request_seconds", "Seconds to the answer.", ["endpoint"], buckets=BUCKETS, registry=self.registry
        )

    def text(self) -> bytes:
        """All figures in Prometheus' text format; blocks on the pool and Redis once in some seconds."""
        return generate_latest(self.registry)


class Measured:
    """ASGI middleware: counts and times every request by endpoint."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        endpoint = scope["path"] if scope["path"] in PATHS else "other"
        status = 500
        started = time.perf_counter()

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            self.metrics.requests.labels(endpoint, str(status)).inc()
            self.metrics.seconds.labels(endpoint).observe(time.perf_counter() - started)
