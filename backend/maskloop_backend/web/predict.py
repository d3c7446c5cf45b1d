"""Answers /predict: from the pool at once, else through the GPU worker within the deadline."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import redis

from maskloop_backend.intake import HeadersFor, IntakeError, Wanted, take_in
from maskloop_backend.results import UNANSWERED, UNTRAINED, empty_result
from maskloop_backend.web.answers import Answers, Served
from maskloop_backend.web.asked import Asked, View, give_up, log_reasons, read_task
from maskloop_backend.web.threads import Threads
from maskloop_backend.web.typed import note_typed
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import Question
from maskloop_learner.pool.store import StoreError
from maskloop_learner.settings import Settings
from maskloop_queue.queues import enqueue_score

FETCH_TIMEOUT = 30.0
QUEUE_TIMEOUT = 5.0
ASK_AGAIN = 5.0
"""Seconds after which a missing prediction is asked for once more: its job may be lost, or carry an older deadline."""
AHEAD = 64
"""Images of one request in the queue at most: hundreds take Redis seconds, and workers need only the next few."""
FIRST_POLL, LAST_POLL = 0.03, 0.25


def due(missing: list[Question], asked_at: dict[Question, float]) -> list[Question]:
    """Which of the missing images to ask for now: not yet, or long ago, and `AHEAD` under way at most."""
    fresh = time.monotonic() - ASK_AGAIN
    under_way = {question for question in missing if asked_at.get(question, 0.0) > fresh}
    wanted = [question for question in dict.fromkeys(missing) if question not in under_way]
    return wanted[: max(0, AHEAD - len(under_way))]


class Predictor:
    """What /predict needs, shared by all requests. Blocking work runs in threads, apart by kind."""

    def __init__(self, pool: Pool, connection: redis.Redis, *, settings: Settings, headers_for: HeadersFor) -> None:
        self.pool, self.connection, self.settings, self.headers_for = pool, connection, settings, headers_for
        self.answers = Answers(pool)
        self.stopping = asyncio.Event()
        # Slow downloads, or a Redis that hangs, must not hold up answers from the pool.
        self._reading = Threads(4, "predict")
        self._fetching = Threads(4, "fetch")
        self._queueing = Threads(2, "queue")

    async def answer(
        self, project_ls_id: int, tasks: list[Any], *, context: Sequence[Mapping[str, Any]] | None = None
    ) -> bytes:
        """The JSON body of the reply: one result per task, in order, at most `predict_deadline` seconds later.

        `context` holds the regions that Label Studio sends along while an annotator types a prompt: the reply is what
        the model makes of it.
        """
        end = time.monotonic() + self.settings.predict_deadline
        asked = [read_task(place, task) for place, task in enumerate(tasks)]
        typing = context is not None
        served = await self._reading.run(lambda: self.answers.begin(project_ls_id, asked, look=not typing))
        untrained = served is not None and served.version is None
        if served is None:
            give_up(asked, "the project is not connected: run `maskloop connect`")
        elif served.version is None:
            give_up(asked, "there is no model yet: it comes with the first training")
        elif any(item.open for item in asked):
            await self._take_in(served, [item for item in asked if item.open], end)
            if context is not None:
                for item in (item for item in asked if item.open):
                    await self._reading.run(lambda item=item: note_typed(self.pool, served, item, context))  # type: ignore[misc]
            if served.fault is not None:
                # What is predicted is answered all the same; nobody waits for what no worker can predict.
                await self._reading.run(lambda: self.answers.collect(served, asked))
                give_up(asked, f"the model cannot be loaded: {served.fault}; see `maskloop doctor`")
            else:
                await self._wait(served, served.version, [item for item in asked if item.open], end)
        log_reasons(project_ls_id, asked)
        empty = empty_result(UNTRAINED if untrained else UNANSWERED)
        return b'{"results":[' + b",".join(item.reply or empty for item in asked) + b"]}"

    async def _take_in(self, served: Served, asked: list[Asked], end: float) -> None:
        missing = [
            (item, view) for item in asked for view in item.views if view.question is None and view.reason is None
        ]

        def fetch(item: Asked, view: View) -> Question:
            return take_in(
                Wanted(served.project_id, served.ls_url, item.ls_id, view.part, item.data),
                pool=self.pool,
                settings=self.settings,
                headers_for=self.headers_for,
                timeout=max(0.1, min(FETCH_TIMEOUT, end - time.monotonic())),
            )

        async def one(item: Asked, view: View) -> None:
            try:
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    view.question = await self._fetching.run(lambda: fetch(item, view))
            except IntakeError as error:
                view.reason = str(error)
            except TimeoutError:
                view.reason = f"its image was not fetched within {self.settings.predict_deadline:g} s"
            except (StoreError, OSError) as error:
                view.reason = f"its image cannot be stored: {error}"
            item.check_views()

        if not missing:
            return

        async def every() -> None:
            await asyncio.gather(*(one(item, view) for item, view in missing))

        work, stop = asyncio.create_task(every()), asyncio.create_task(self.stopping.wait())
        await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if work.done():
            work.result()  # raises what was not foreseen
            return
        work.cancel()
        await asyncio.wait((work,))
        give_up(asked, "the web process is stopping")

    async def _wait(self, served: Served, version: str, waiting: list[Asked], end: float) -> None:
        """Ask the GPU workers for what is missing and wait for it to appear in the pool."""
        pause, asked_at = FIRST_POLL, dict[Question, float]()
        while True:
            await self._reading.run(lambda: self.answers.collect(served, waiting))
            left = end - time.monotonic()
            if left <= 0:
                give_up(waiting, f"no GPU worker scored it within {self.settings.predict_deadline:g} s")
            if self.stopping.is_set():
                give_up(waiting, "the web process is stopping")
            missing = [question for item in waiting if item.open for question in item.questions]
            if not missing:
                return
            wanted = due(missing, asked_at)
            failure = await self._enqueue(version, wanted, left)
            if failure is None:
                asked_at |= dict.fromkeys(wanted, time.monotonic())
            elif not asked_at:
                give_up(waiting, f"it is not scored yet, and the queue cannot be reached: {failure}")
                return
            await asyncio.sleep(min(pause, left))
            pause = min(LAST_POLL, pause * 1.5)

    async def _enqueue(self, version: str, questions: list[Question], left: float) -> str | None:
        """Enqueue images at the front, the first one foremost; return why that was not possible, or None."""
        deadline = time.time() + left

        def work() -> None:
            # The front is last in, first out.
            for question in reversed(questions):
                enqueue_score(self.connection, version, *question, deadline=deadline, front=True)

        if not questions:
            return None
        try:
            async with asyncio.timeout(min(left, QUEUE_TIMEOUT)):
                await self._queueing.run(work)
        except redis.RedisError as error:
            return str(error)
        except TimeoutError:
            return f"Redis did not answer within {QUEUE_TIMEOUT:g} s"
        return None

    def close(self) -> None:
        """Let go of the threads; work that has not begun is dropped."""
        for threads in (self._reading, self._fetching, self._queueing):
            threads.close()
