"""A training gives way while a prediction is made that a person waits for, and never for more than its share allows.

A GPU worker announces such a prediction in Redis; trainings of the same machine look between two steps. Without Redis
nobody gives way.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from maskloop_queue import KEY_PREFIX
from maskloop_queue.processes import machine

log = logging.getLogger(__name__)

TTL = 3.0
"""Seconds for which an announcement holds that nobody takes back, as of a worker that died."""
LOOK_EVERY = 0.02
"""Seconds between two looks."""
CREDIT = 5.0
"""Seconds that a training stands still at most before it works again; credit for more is not kept."""
AFTER_ERROR = 30.0
"""Seconds without a look after one that failed."""
# Only one's own announcement: another worker may have made its own since.
_TAKE_BACK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end"


def key() -> str:
    """Of this machine's announcement."""
    return f"{KEY_PREFIX}:interactive:{machine()}"


def announce(conn: redis.Redis, who: str) -> None:
    """Say that a person waits. RedisError when Redis is down."""
    conn.set(key(), who, px=int(TTL * 1000))


@contextmanager
def announced(conn: redis.Redis, who: str) -> Iterator[None]:
    """Say so until the block ends. What is done in it goes on without Redis too."""
    try:
        announce(conn, who)
    except redis.RedisError as error:
        log.info("trainings were not asked to give way to %s: %s", who, error)
    try:
        yield
    finally:
        try:
            conn.eval(_TAKE_BACK, 1, key(), who)
        except redis.RedisError as error:
            log.info("the announcement of %s runs out by itself: %s", who, error)


class GivingWay:
    """The training's side: `pause` waits while a person does, as long as there is credit.

    Each second of work earns (1 - share) / share seconds of credit, up to `CREDIT`. So in any stretch of time the
    training works for `share` of it at least, less share x CREDIT seconds.
    """

    def __init__(
        self,
        *,
        waits: Callable[[], bool],
        share: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`waits` says whether a person waits just now. `share` is above 0 and at most 1: 1 gives way to nobody."""
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {share!r}")
        self._waits, self._rate = waits, (1 - share) / share
        self._clock, self._sleep = clock, sleep
        self._credit = CREDIT if share < 1 else 0.0
        self._at = self._look_at = clock()

    def pause(self) -> None:
        """Wait while a person waits, or until the credit is used up. Called between two pieces of work."""
        now = self._clock()
        self._credit = min(CREDIT, self._credit + (now - self._at) * self._rate) if self._rate else 0.0
        self._at = now
        while self._credit > 0 and now >= self._look_at and self._waits():
            self._sleep(LOOK_EVERY)
            now = self._clock()
            self._credit -= now - self._at
            self._at = now
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY


def somebody_waits(conn: redis.Redis, goes_on: Callable[[], None]) -> Callable[[], bool]:
    """Whether a prediction is announced; `goes_on` is called at each look, to show life. False while Redis is down."""
    quiet_until, name = 0.0, key()

    def look() -> bool:
        nonlocal quiet_until
        goes_on()
        if time.monotonic() < quiet_until:
            return False
        try:
            return bool(conn.exists(name))
        except redis.RedisError as error:
            quiet_until = time.monotonic() + AFTER_ERROR
            log.info("nobody can ask this training to give way: %s", error)
            return False

    return look
