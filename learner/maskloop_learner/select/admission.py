"""Which images may join a batch: no group too often, and no picture that is in it already."""

from collections import Counter

from maskloop_learner.pool.looks import Look
from maskloop_learner.pool.twins import Twins
from maskloop_learner.select.candidates import Candidates
from maskloop_learner.select.options import Options


class Admission:
    """The rows of a batch in the making, in the order in which they were taken."""

    def __init__(self, candidates: Candidates, options: Options) -> None:
        self.taken: list[int] = []
        self.capped = 0
        """Rows that were turned away because their group is full."""
        self.twins: Counter[int] = Counter()
        """Taken row -> how many rows were turned away because they are nearly the same picture."""
        self._groups, self._cap = candidates.groups, options.group_cap
        self._counts: Counter[int] = Counter()
        self._asked: set[int] = set()
        looks = candidates if candidates.phashes and candidates.thumbnails and not options.keep_duplicates else None
        self._looks = looks
        self._known = Twins()

    def admit(self, row: int) -> bool:
        """Take the row into the batch if it may join. A row that was turned away or taken never may."""
        if row in self._asked:
            return False
        group = int(self._groups[row])
        self._asked.add(row)
        if self._cap is not None and group >= 0 and self._counts[group] >= self._cap:
            self.capped += 1
            return False
        look = self._look(row)
        twin = self._known.find(look) if look else None
        if twin is not None:
            self.twins[twin] += 1
            return False
        if look:
            self._known.add(row, look)
        self._counts[group] += 1
        self.taken.append(row)
        return True

    def _look(self, row: int) -> Look | None:
        if self._looks is None:
            return None
        phash, thumbnail = self._looks.phashes[row], self._looks.thumbnails[row]
        return Look(phash, thumbnail) if phash and thumbnail else None
