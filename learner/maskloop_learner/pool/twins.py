"""Whether a picture is one of some pictures, which come one by one; the rule is that of `duplicates`."""

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.pool.duplicates import (
    LEAST_ALIKE,
    LEAST_EXPLAINED,
    MOST_BITS,
    count_bits,
    fit_thumbnails,
)
from maskloop_learner.pool.looks import Look


class Twins:
    """Pictures by number. Asking costs a fraction of a millisecond, whatever their number."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._codes: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._fits: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []

    def add(self, number: int, look: Look) -> None:
        """Keep a picture; a blank one resembles nothing."""
        if not look.phash:
            return
        bases, targets = fit_thumbnails([look.thumbnail])
        self._numbers.append(number)
        self._codes = np.append(self._codes, np.uint64(int(look.phash, 16)))
        self._fits.append((bases[0], targets[0]))

    def find(self, look: Look) -> int | None:
        """The number of the first picture that this one is as well; None when it is another one."""
        if not look.phash or not self._numbers:
            return None
        near = np.flatnonzero(count_bits(self._codes ^ np.uint64(int(look.phash, 16))) <= MOST_BITS)
        if not len(near):
            return None
        bases, targets = fit_thumbnails([look.thumbnail])
        for at in map(int, near):
            base, target = self._fits[at]
            if (
                float(target @ targets[0]) >= LEAST_ALIKE
                and _explained(base, targets[0]) >= LEAST_EXPLAINED
                and _explained(bases[0], target) >= LEAST_EXPLAINED
            ):
                return self._numbers[at]
        return None


def _explained(base: NDArray[np.float32], target: NDArray[np.float32]) -> float:
    return float(np.square(target @ base).sum())
