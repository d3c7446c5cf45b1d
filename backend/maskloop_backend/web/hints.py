"""Passes webhooks on to sync as hints, after the webhook was answered: Redis can be slow or down."""

import asyncio
import logging
import time
from functools import partial

import redis
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from maskloop_backend.web.threads import Threads
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project
from maskloop_queue.wake import wake

logger = logging.getLogger(__name__)

LOG_EVERY = 30.0
EVERY_PROJECT = 0


class Hints:
    """Collects project ids and wakes sync for them; many hints for a project become one."""

    def __init__(self, pool: Pool, connection: redis.Redis) -> None:
        self.pool, self.connection = pool, connection
        self._pending: set[int] = set()
        self._wanted = asyncio.Event()
        self._thread = Threads(1, "hints")
        self._task: asyncio.Task[None] | None = None
        self._logged = -LOG_EVERY

    def add(self, ls_id: int | None) -> None:
        """Have sync look at a project of Label Studio, or at every one when the webhook names none."""
        self._pending.add(ls_id or EVERY_PROJECT)
        self._wanted.set()

    def start(self) -> None:
        """Begin to pass hints on, within a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop; a hint that is lost costs one sync period."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.close()

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            ids, self._pending = self._pending, set()
            try:
                await self._thread.run(partial(self._wake, ids))
            except (redis.RedisError, SQLAlchemyError, OSError) as error:
                # Not kept for later: sync looks by itself once per sync period.
                if time.monotonic() - self._logged >= LOG_EVERY:
                    self._logged = time.monotonic()
                    logger.warning(
                        "webhook: could not wake sync, which looks by itself once per sync interval: %s", error
                    )

    def _wake(self, ids: set[int]) -> None:
        if EVERY_PROJECT in ids:
            with self.pool.read() as session:
                ids = set(session.scalars(select(Project.ls_id)))
        for ls_id in ids:
            wake(self.connection, ls_id)
