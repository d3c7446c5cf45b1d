"""What costs much to find out is kept the longer, the more it costs: pages that look again and again stay cheap."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
SHARE = 0.1
"""Of the time, at most, that finding out again may take."""
LONGEST = 5.0
"""Seconds for which a value is kept at most, whatever it cost: people watch."""


@dataclass
class _Place(Generic[T]):
    lock: threading.Lock = field(default_factory=threading.Lock)
    found: tuple[T] | None = None
    until: float = 0.0
    turn: int = 0


class Kept(Generic[T]):
    """Values by key. May be used from several threads: one finds out, the others take what was there."""

    def __init__(self, share: float = SHARE) -> None:
        self._share = share
        self._lock = threading.Lock()
        self._places: dict[object, _Place[T]] = {}

    def get(self, key: object, make: Callable[[], T]) -> T:
        """What `make` gave last time, or gives now where that is too old; it is asked by one thread at a time."""
        with self._lock:
            place = self._places.setdefault(key, _Place())
        found = place.found
        if found is not None and (time.monotonic() < place.until or not place.lock.acquire(blocking=False)):
            return found[0]
        if found is None:
            place.lock.acquire()
        try:
            if place.found is not None and time.monotonic() < place.until:
                return place.found[0]
            turn, started = place.turn, time.monotonic()
            value = make()
            now = time.monotonic()
            if turn == place.turn:  # not forgotten meanwhile
                place.found, place.until = (value,), now + min(LONGEST, (now - started) / self._share)
            return value
        finally:
            place.lock.release()

    def forget(self, key: object) -> None:
        """Have it found out anew: it has just been changed."""
        with self._lock:
            place = self._places.setdefault(key, _Place())
            place.turn += 1
            place.found, place.until = None, 0.0
