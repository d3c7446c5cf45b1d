"""The order of a version's images by any of their scores, kept in memory: rows of a version are only ever added.

A rank holds its twenty scores in one JSON value, which no index sorts; a board reads each once.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Prediction, Rank
from maskloop_learner.predict.aggregate import AGGREGATIONS, MEASURES

DEFAULT = "predictive_entropy/mean"
"""What Label Studio serves by: `Rank.uncertainty`."""
SCORES: tuple[str, ...] = tuple(f"{measure}/{way}" for measure in MEASURES for way in AGGREGATIONS)
KEPT = 4
"""Versions in memory: about 18 MB each for 100,000 images."""
AT_ONCE, PAUSE = 1000, 0.03
"""Rows that are read at once, and seconds between two such reads in the background."""
FRESH = "boards"
"""In a session's `info`: the boards that were brought up to date in it."""
Keys = NDArray[np.int64]
"""Ids of ranks; minus the ids of predictions of earlier releases, which have no rank."""
Values = NDArray[np.float64]


class Unsortable(ValueError):
    """A score by which a version's images cannot be ordered; the message says why."""


@dataclass(frozen=True)
class Order:
    """Keys and values, the largest value first. Equal values come in any order."""

    keys: Keys
    values: Values

    def start(self, value: float) -> int:
        """Place of the first of this value or a smaller one."""
        return int(np.searchsorted(-self.values, -value, side="left"))

    def whole_ties(self, place: int) -> int:
        """The place, or the next one that does not stand between two equal values."""
        if not 0 < place < len(self.values):
            return min(place, len(self.values))
        return int(np.searchsorted(-self.values, -self.values[place - 1], side="right"))


class Board:
    """One version's scores. May be used from several threads."""

    def __init__(self, version_id: str) -> None:
        self.version_id = version_id
        self._lock = threading.RLock()
        self._clear()

    def _clear(self) -> None:
        self._ranks: Keys = np.empty(0, np.int64)
        self._uncertainty: Values = np.empty(0)
        self._scores: Values = np.empty((0, len(SCORES)))
        self._alone: Keys = np.empty(0, np.int64)
        self._alone_uncertainty: Values = np.empty(0)
        self._looked_at = 0
        self._orders: dict[str, Order] = {}

    def order(self, session: Session, by: str) -> Order:
        """All images by a score. Raises Unsortable where the version has no such score."""
        with self._lock:
            self._refresh(session)
            if by not in self._orders:
                keys = np.concatenate([self._ranks, -self._alone])
                values = self._values(session, by)
                places = np.argsort(-values, kind="stable")
                self._orders[by] = Order(keys[places], values[places])
            return self._orders[by]

    def find(self, session: Session, by: str, keys: Keys) -> Values:
        """The scores of some images, NaN where one is not known. Raises like `order`."""
        with self._lock:
            self._refresh(session)
            values = self._values(session, by)
            found = np.full(len(keys), np.nan)
            for known, start, wanted in ((self._ranks, 0, keys), (self._alone, len(self._ranks), -keys)):
                places = np.searchsorted(known, wanted)
                there = (places < len(known)) & (wanted > 0)
                there[there] = known[places[there]] == wanted[there]
                found[there] = values[start + places[there]]
            return found

    def prepare(self, session: Session) -> bool:
        """Read the scores of some more images, so that the first order by one of them need not; whether more wait."""
        with self._lock:
            self._refresh(session)
            self._read_scores(session)
            return len(self._scores) < len(self._ranks)

    def _refresh(self, session: Session) -> None:
        # Once in a transaction: the count goes through all of a version's rows.
        seen: set[Board] = session.info.setdefault(FRESH, set())
        if self not in seen:
            self._look(session)
            seen.add(self)

    def _look(self, session: Session) -> None:
        mine = Rank.version_id == self.version_id
        count, last = session.execute(select(func.count(Rank.id), func.max(Rank.id)).where(mine)).one()
        if count < len(self._ranks) or (len(self._ranks) and last < self._ranks[-1]):
            self._clear()  # rows went: nothing that is known of it holds
        if count > len(self._ranks):
            after = int(self._ranks[-1]) if len(self._ranks) else 0
            rows = select(Rank.id, Rank.uncertainty).where(mine, Rank.id > after).order_by(Rank.id)
            ids, values = _columns(session.execute(rows).all())
            self._ranks, self._uncertainty = np.append(self._ranks, ids), np.append(self._uncertainty, values)
            self._orders.clear()
        self._look_for_alone(session)

    def _look_for_alone(self, session: Session) -> None:
        """Of predictions that were written since the last look, those without a rank."""
        mine = Prediction.version_id == self.version_id
        last = session.scalar(select(func.max(Prediction.id)))
        if last is None or last <= self._looked_at:
            return
        ranked = select(Rank.id).where(
            Rank.version_id == Prediction.version_id,
            Rank.image_digest == Prediction.image_digest,
            Rank.prompt_digest == Prediction.prompt_digest,
        )
        rows = select(Prediction.id, Prediction.uncertainty).where(mine, Prediction.id > self._looked_at)
        rows = rows.where(Prediction.uncertainty.is_not(None), ~ranked.exists()).order_by(Prediction.id)
        ids, values = _columns(session.execute(rows).all())
        self._looked_at = last
        if len(ids):
            self._alone = np.append(self._alone, ids)
            self._alone_uncertainty = np.append(self._alone_uncertainty, values)
            self._orders.clear()

    def _values(self, session: Session, by: str) -> Values:
        """By `_ranks`, then by `_alone`."""
        if by not in SCORES:
            raise Unsortable(f"there is no score {by!r}; choose one of {', '.join(SCORES)}")
        if by == DEFAULT:
            return np.concatenate([self._uncertainty, self._alone_uncertainty])
        while len(self._scores) < len(self._ranks):
            self._read_scores(session)
        values = self._scores[:, SCORES.index(by)]
        if len(self._alone) or np.isnan(values).any():
            raise Unsortable(
                "some images were predicted by an earlier release, which kept the mean only; train once more"
            )
        if len(values) and not values.any():
            raise Unsortable(
                f"{by} is 0 for every image: this model ranks by a single pass, which knows predictive_entropy only; "
                "set MASKLOOP_CHEAP_RANKING=false to rank with all samples"
            )
        return values

    def _read_scores(self, session: Session) -> None:
        some = self._ranks[len(self._scores) : len(self._scores) + AT_ONCE]
        if len(some):
            between = Rank.id.between(int(some[0]), int(some[-1])), Rank.version_id == self.version_id
            rows = session.execute(select(Rank.aggregates).where(*between).order_by(Rank.id)).scalars()
            self._scores = np.concatenate([self._scores, np.array([largest(each or {}) for each in rows])])


class Boards:
    """The boards of the versions that were asked for last."""

    def __init__(self) -> None:
        self._boards: OrderedDict[str, Board] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, version_id: str) -> Board:
        """The board of a version."""
        with self._lock:
            board = self._boards.setdefault(version_id, Board(version_id))
            self._boards.move_to_end(version_id)
            while len(self._boards) > KEPT:
                self._boards.popitem(last=False)
            return board

    def prepare(self, pool: Pool, version_id: str, stop: threading.Event) -> None:
        """Read all scores of a version, some at a time: others may ask in between."""
        more = True
        while more and not stop.wait(PAUSE):
            with pool.read() as session:
                more = self.of(version_id).prepare(session)


def largest(aggregates: dict[str, Any]) -> list[float]:
    """Every score's largest value over the labels, in the order of `SCORES`; NaN where it was not kept."""
    labels = list(aggregates.values())
    try:
        return [max(each[measure][way] for each in labels) for measure in MEASURES for way in AGGREGATIONS]
    except (KeyError, ValueError):  # an earlier release kept fewer, or none
        return [float("nan")] * len(SCORES)


def _columns(rows: Any) -> tuple[Keys, Values]:
    ids, values = zip(*rows, strict=True) if rows else ((), ())
    return np.array(ids, np.int64), np.array(values, np.float64)
