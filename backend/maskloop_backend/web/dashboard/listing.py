"""The images of a project, page by page, in exactly the order of `pool.serving.serving_order`.

A page is found by walking down a board from where the last one ended, never by counting from the start; where a
filter leaves few, these are read and sorted instead.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from maskloop_backend.web.dashboard.boards import Board
from maskloop_backend.web.dashboard.wishes import Cursor, Wish
from maskloop_learner.pool.queries import answers, drawn, in_open_batch, open_places, touched
from maskloop_learner.pool.schema import Batch, BatchItem, Prediction, Project, Rank, Score, Task

FEW = 5000
"""Rows that are read at once at most; with a filter that leaves fewer, nothing is walked."""
STEP = 256
LAST = 1 << 62
"""Behind every place in a batch."""


@dataclass(frozen=True)
class Found:
    """A task in the list: `value` is what it stands here by, None where it has no score."""

    task_id: int
    ls_id: int
    key: int
    value: float | None = None
    position: int | None = None
    """In the open batch, from 1, where that comes first."""

    @property
    def place(self) -> tuple[int, bool, float, int, int]:
        """The order: the open batch's, then by score, the largest first, those without one last; then by Label
        Studio's id."""
        return self.position or LAST, self.value is None, -(self.value or 0.0), self.ls_id, self.task_id


class Listing:
    """One project under one version; None: it has no model yet."""

    def __init__(self, session: Session, project: Project, version: str | None, board: Board | None) -> None:
        self.session, self.project, self.version, self.board = session, project, version, board
        self._parts = len({control["data_key"] for control in (project.control or {}).get("controls", [])})
        self._prediction = aliased(Prediction)

    def page(self, wish: Wish) -> tuple[list[Found], Cursor | None]:
        """The rows of a page, and where the next one begins; None at the end. Raises Unsortable."""
        members = self._members(wish) if wish.batch_first else []
        rows = [row for row in members if wish.after is None or row.place > _place(wish.after)]
        rest = replace(wish, after=None) if wish.after is not None and wish.after.place is not None else wish
        if len(rows) <= wish.limit:
            rows += self._others(rest, {row.ls_id for row in members})
        shown = (wish.after.shown if wish.after else 0) + wish.limit
        last = rows[wish.limit - 1] if len(rows) > wish.limit else None
        rows = rows[: wish.limit]
        following = Cursor(last.value, last.ls_id, last.task_id, shown, last.position) if last is not None else None
        return rows, following

    def _others(self, wish: Wish, members: Collection[int]) -> list[Found]:
        """The rows of a page, and at least one more where there is one, without those of the open batch."""
        if wish.state == "queue" and self.board is None:
            return []
        if wish.state in ("waiting", "failed") or self.board is None:
            return self._unscored(wish, wish.after)
        rows = self._scored(wish, members)
        if len(rows) <= wish.limit and wish.state != "queue":
            after = wish.after if wish.after is not None and wish.after.value is None else None
            rows += self._unscored(wish, after, limit=wish.limit + 1 - len(rows))
        return rows

    def _members(self, wish: Wish) -> list[Found]:
        """The open batch's tasks that wait, in its order; of a task's images the most uncertain one."""
        places = open_places(self.session, self.project.id)
        if not places:
            return []
        rows = self._read(self._joined().where(*self._filters(wish), in_open_batch(self.project.id)))
        keys = np.array([row.key for row in rows], np.int64)
        values = np.full(len(rows), np.nan) if self.board is None else self.board.find(self.session, wish.score, keys)
        found: dict[int, Found] = {}
        known = (value if value == value else None for value in values.tolist())
        valued = [replace(row, value=value) for row, value in zip(rows, known, strict=True)]
        for row in sorted(valued, key=lambda row: row.place):
            found.setdefault(row.ls_id, replace(row, position=places[row.ls_id]))
        return sorted(found.values(), key=lambda row: row.place)

    def count(self, wish: Wish) -> int:
        """Tasks of Label Studio in all pages together."""
        # To tell apart costs half of the time, and is needed only where tasks have several images.
        each = func.count(func.distinct(Task.ls_id)) if self._parts > 1 else func.count(Task.id)
        statement = select(each).where(*self._filters(wish))
        if wish.state == "queue":
            first = [in_open_batch(self.project.id)] if wish.batch_first else []
            statement = statement.where(or_(self._is_scored(), *first))
        elif wish.state == "waiting" and self.version is not None:
            statement = statement.where(~self._any_scored() if self._parts > 1 else ~self._is_scored())
        return self.session.scalar(statement) or 0

    def _scored(self, wish: Wish, members: Collection[int]) -> list[Found]:
        if wish.after is not None and wish.after.value is None:
            return []
        if wish.batch or wish.group or wish.state in ("labelled", "skipped"):
            rows = self._read(self._joined().where(*self._filters(wish), self._is_scored()).limit(FEW + 1))
            if len(rows) <= FEW:
                return self._sort(rows, wish, members)[: wish.limit + 1]
        return self._walk(wish, members)

    def _walk(self, wish: Wish, members: Collection[int]) -> list[Found]:
        board = self._board()
        order = board.order(self.session, wish.score)
        place = order.start(wish.after.value) if wish.after is not None and wish.after.value is not None else 0
        step, found = STEP, list[Found]()
        while place < len(order.keys) and len(found) <= wish.limit:
            end = order.whole_ties(place + step)
            keys = order.keys[place:end]
            found += self._sort(self._of_keys(keys, wish), wish, members)
            place, step = end, min(2 * step, FEW)
        return found[: wish.limit + 1]

    def _of_keys(self, keys: Iterable[int], wish: Wish) -> list[Found]:
        filters = self._filters(wish)
        ids = [int(key) for key in keys]
        found: list[Found] = []
        for start in range(0, len(ids), FEW):
            some = ids[start : start + FEW]
            ranks, alone = [key for key in some if key > 0], [-key for key in some if key < 0]
            if ranks:
                same = Task.image_digest == Rank.image_digest, Task.prompt_digest == Rank.prompt_digest
                rows = select(Task.id, Task.ls_id, Rank.id).join_from(Rank, Task, and_(*same))
                found += self._read(rows.where(Rank.id.in_(ranks), *filters))
            if alone:
                rows = self._joined().where(Prediction.id.in_(alone), Rank.id.is_(None), *filters)
                found += self._read(rows)
        return found

    def _joined(self) -> Any:
        """Every task with its rank, or with minus the prediction that has none."""
        key = func.coalesce(Rank.id, -Prediction.id)
        rows = select(Task.id, Task.ls_id, key).select_from(Task)
        version = self.version or ""
        return rows.outerjoin(Rank, answers(Rank, version)).outerjoin(Prediction, answers(Prediction, version))

    def _read(self, statement: Any) -> list[Found]:
        return [Found(task, ls_id, key or 0) for task, ls_id, key in self.session.execute(statement)]

    def _sort(self, rows: Sequence[Found], wish: Wish, members: Collection[int]) -> list[Found]:
        """With their scores, in order, those after the cursor; of a task's images the first alone."""
        rows = self._with_values([row for row in rows if row.ls_id not in members], wish.score)
        after = _place(wish.after) if wish.after else None
        kept = sorted((row for row in rows if after is None or row.place > after), key=lambda row: row.place)
        return self._first_of_each(kept, wish)

    def _with_values(self, rows: Sequence[Found], by: str) -> list[Found]:
        keys = np.array([row.key for row in rows], np.int64)
        values = self._board().find(self.session, by, keys)
        pairs = zip(rows, values.tolist(), strict=True)
        return [Found(row.task_id, row.ls_id, row.key, value) for row, value in pairs if value == value]

    def _first_of_each(self, rows: list[Found], wish: Wish) -> list[Found]:
        if self._parts < 2 or not rows:
            return rows
        best: dict[int, Found] = {}
        ids = list({row.ls_id for row in rows})
        for start in range(0, len(ids), FEW):
            some = Task.ls_id.in_(ids[start : start + FEW])
            siblings = self._read(self._joined().where(*self._filters(wish), self._is_scored(), some))
            for row in sorted(self._with_values(siblings, wish.score), key=lambda row: row.place):
                best.setdefault(row.ls_id, row)
        return [row for row in rows if best.get(row.ls_id, row).task_id == row.task_id]

    def _unscored(self, wish: Wish, after: Cursor | None, *, limit: int | None = None) -> list[Found]:
        """Tasks none of whose images has a score, by Label Studio's id; of "failed", whatever they have."""
        filters = self._filters(wish)
        if wish.state != "failed" and self.version is not None:
            # First, since a database tries conditions in their order, and most images have a score.
            filters.insert(0, ~self._any_scored() if self._parts > 1 else ~self._is_scored())
        statement = select(func.min(Task.id), Task.ls_id).where(*filters).group_by(Task.ls_id)
        if after is not None:
            statement = statement.where(Task.ls_id > after.ls_id)
        rows = self.session.execute(statement.order_by(Task.ls_id).limit(limit or wish.limit + 1))
        return [Found(task, ls_id, 0) for task, ls_id in rows]

    def _any_scored(self) -> ColumnElement[bool]:
        """Whether any image of the same task has a score."""
        other = aliased(Task)
        mine = other.project_id == Task.project_id, other.ls_id == Task.ls_id
        return exists().where(*mine, or_(self._same(Rank, other), self._same(Prediction, other)))

    def _same(self, kind: type[Rank | Prediction], task: type[Task]) -> ColumnElement[bool]:
        # Under another name: the statement around it may have the table too.
        other = aliased(kind)
        same = other.image_digest == task.image_digest, other.prompt_digest == task.prompt_digest
        return exists().where(other.version_id == self.version, *same, other.uncertainty.is_not(None))

    def _is_scored(self) -> ColumnElement[bool]:
        return or_(self._same(Rank, Task), self._same(Prediction, Task))

    def _filters(self, wish: Wish) -> list[ColumnElement[bool]]:
        found = [Task.project_id == self.project.id, Task.deleted_at.is_(None), *self._state(wish)]
        if wish.label:
            has = Score.prediction_id == self._prediction.id, Score.label == wish.label, Score.area > 0
            found.append(exists().where(self._answers(), *has))
        if wish.group:
            found.append(Task.group_key.startswith(wish.group, autoescape=True))
        if wish.batch:
            first = aliased(Task)
            in_batch = (
                select(first.ls_id)
                .join(BatchItem, BatchItem.task_id == first.id)
                .join(Batch, Batch.id == BatchItem.batch_id)
                .where(Batch.project_id == self.project.id, Batch.number == wish.batch)
            )
            found.append(Task.ls_id.in_(in_batch))
        return found

    def _state(self, wish: Wish) -> list[ColumnElement[bool]]:
        ready = Task.state == "ready"
        broken = exists().where(self._answers(), self._prediction.error.is_not(None))
        match wish.state:
            case "queue":
                return [ready, ~touched(), ~broken]
            case "labelled":
                return [touched(), drawn()]
            case "skipped":
                return [touched(), ~drawn()]
            case "waiting":
                return [Task.state.in_(("new", "ready")), ~touched(), ~broken]
            case "failed":
                return [or_(Task.state == "failed", broken)]
            case "all":
                return []

    def _answers(self) -> ColumnElement[bool]:
        asked = self._prediction
        same = asked.image_digest == Task.image_digest, asked.prompt_digest == Task.prompt_digest
        return and_(asked.version_id == self.version, *same)

    def _board(self) -> Board:
        if self.board is None:
            raise RuntimeError(f"project {self.project.ls_id} has no model, so nothing of it has a score")
        return self.board


def _place(cursor: Cursor) -> tuple[int, bool, float, int, int]:
    return Found(cursor.task_id, cursor.ls_id, 0, cursor.value, cursor.place).place
