"""Answers /predict: from the pool at once, else through the GPU worker within the deadline."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import redis

from maskloop_backend.web.answers import Answers, Served
from maskloop_backend.web.asked import Asked, give_up, log_reasons, read_task
from maskloop_backend.web.intake import HeadersFor, IntakeError, Wanted, take_in
from maskloop_backend.web.results import UNANSWERED, UNTRAINED, empty_result
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.store import StoreError
from maskloop_learner.settings import Settings
from maskloop_queue.queues import enqueue_score

T = TypeVar("T")
FETCH_TIMEOUT = 30.0
QUEUE_TIMEOUT = 5.0
ASK_AGAIN = 5.0
"""Seconds after which a missing prediction is asked for once more: its job may be lost, or carry an older deadline."""
FIRST_POLL, LAST_POLL = 0.03, 0.25


class Predictor:
    """What /predict needs, shared by all requests. Blocking work runs in threads, apart by kind."""

    def __init__(self, pool: Pool, connection: redis.Redis, *, settings: Settings, headers_for: HeadersFor) -> None:
        self.pool, self.connection, self.settings, self.headers_for = pool, connection, settings, headers_for
        self.answers = Answers(pool)
        self.stopping = asyncio.Event()
        # Slow downloads, or a Redis that hangs, must not hold up answers from the pool.
        self._reading = ThreadPoolExecutor(4, thread_name_prefix="predict")
        self._fetching = ThreadPoolExecutor(4, thread_name_prefix="fetch")
        self._queueing = ThreadPoolExecutor(2, thread_name_prefix="queue")

    async def answer(self, project_ls_id: int, tasks: list[Any]) -> bytes:
        """The JSON body of the reply: one result per task, in order, at most `predict_deadline` seconds later."""
        end = time.monotonic() + self.settings.predict_deadline
        asked = [read_task(place, task) for place, task in enumerate(tasks)]
        served = await self._in(self._reading, lambda: self.answers.begin(project_ls_id, asked))
        untrained = served is not None and served.version is None
        if served is None:
            give_up(asked, "the project is not connected: run `maskloop connect`")
        elif served.version is None:
            give_up(asked, "there is no model yet: it comes with the first training")
        elif any(item.open for item in asked):
            await self._take_in(served, [item for item in asked if item.open and item.digest is None], end)
            await self._wait(served, served.version, [item for item in asked if item.open], end)
        log_reasons(project_ls_id, asked)
        empty = empty_result(UNTRAINED if untrained else UNANSWERED)
        return b'{"results":[' + b",".join(item.reply or empty for item in asked) + b"]}"

    async def _take_in(self, served: Served, missing: list[Asked], end: float) -> None:
        def work(item: Asked) -> str:
            return take_in(
                Wanted(served.project_id, served.ls_url, item.ls_id, served.data_key, item.data),
                pool=self.pool,
                settings=self.settings,
                headers_for=self.headers_for,
                timeout=max(0.1, min(FETCH_TIMEOUT, end - time.monotonic())),
            )

        async def one(item: Asked) -> None:
            try:
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    item.digest = await self._in(self._fetching, lambda: work(item))
            except IntakeError as error:
                item.reason = str(error)
            except StoreError as error:
                item.reason = f"its image cannot be stored: {error}"
            except TimeoutError:
                item.reason = f"its image was not fetched within {self.settings.predict_deadline:g} s"

        await asyncio.gather(*map(one, missing))

    async def _wait(self, served: Served, version: str, waiting: list[Asked], end: float) -> None:
        """Ask the GPU workers for what is missing and wait for it to appear in the pool."""
        await self._in(self._reading, lambda: self.answers.collect(served, waiting))
        failure = await self._enqueue(version, waiting, end)
        if failure is not None:
            give_up(waiting, f"it is not scored yet, and the queue cannot be reached: {failure}")
        pause, asked_at = FIRST_POLL, time.monotonic()
        while any(item.open for item in waiting):
            left = end - time.monotonic()
            if left <= 0:
                give_up(waiting, f"no GPU worker scored it within {self.settings.predict_deadline:g} s")
                return
            if self.stopping.is_set():
                give_up(waiting, "the web process is stopping")
                return
            await asyncio.sleep(min(pause, left))
            pause = min(LAST_POLL, pause * 1.5)
            await self._in(self._reading, lambda: self.answers.collect(served, waiting))
            if time.monotonic() - asked_at > ASK_AGAIN:
                await self._enqueue(version, waiting, end)
                asked_at = time.monotonic()

    async def _enqueue(self, version: str, waiting: list[Asked], end: float) -> str | None:
        """Enqueue the open tasks' images at the front; return why that was not possible, or None."""
        # The front is last in, first out: backwards, so that the first task is scored first.
        digests = list(dict.fromkeys(item.digest for item in reversed(waiting) if item.open and item.digest))
        left = end - time.monotonic()
        if not digests or left <= 0:
            return None
        deadline = time.time() + left

        def work() -> None:
            for digest in digests:
                enqueue_score(self.connection, version, digest, deadline=deadline, front=True)

        try:
            async with asyncio.timeout(min(left, QUEUE_TIMEOUT)):
                await self._in(self._queueing, work)
        except redis.RedisError as error:
            return str(error)
        except TimeoutError:
            return f"Redis did not answer within {QUEUE_TIMEOUT:g} s"
        return None

    @staticmethod
    async def _in(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    def close(self) -> None:
        """Let go of the threads; work that has not begun is dropped."""
        for threads in (self._reading, self._fetching, self._queueing):
            threads.shutdown(wait=False, cancel_futures=True)
