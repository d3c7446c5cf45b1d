"""Wrong passwords are counted by address: soon each costs time, then none is looked at for a while."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable

WINDOW = 60.0
"""Seconds for which a wrong guess counts."""
MOST = 20
"""Wrong guesses within `WINDOW` after which an address must wait."""
DELAY = 0.3
"""Seconds that the answer to a wrong guess takes."""
ADDRESSES = 10_000
GUESSABLE = 24
"""A password of fewer characters may be guessed; one of more, as the generated are, is not found by trying."""


class Guesses:
    """Wrong guesses of late, by address. Memory is bounded: the addresses seen last are known."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def note(self, address: str) -> None:
        """Count a wrong guess."""
        times = self._wrong.setdefault(address, deque(maxlen=MOST))
        times.append(self._clock())
        self._wrong.move_to_end(address)
        while len(self._wrong) > ADDRESSES:
            self._wrong.popitem(last=False)

    def wait(self, address: str) -> float:
        """Seconds until the address may guess again; 0 when it may now."""
        times = self._wrong.get(address)
        if times is None or len(times) < MOST:
            return 0.0
        return max(0.0, times[0] + WINDOW - self._clock())
