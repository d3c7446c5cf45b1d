"""The images of a project, page by page, in exactly the order of `pool.queries.ranking`.

A page is found by walking down a board from where the last one ended, never by counting from the start; where a
filter leaves few, these are read and sorted instead.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from maskloop_backend.web.dashboard.boards import Board
from maskloop_backend.web.dashboard.wishes import Cursor, Wish
from maskloop_learner.pool.queries import answers, drawn
from maskloop_learner.pool.schema import Batch, BatchItem, Label, Prediction, Project, Rank, Score, Task

FEW = 5000
"""Rows that are read at once at most; with a filter that leaves fewer, nothing is walked."""
STEP = 256


@dataclass(frozen=True)
class Found:
    """A task in the list: `value` is what it stands here by, None where it has no score."""

    task_id: int
    ls_id: int
    key: int
    value: float | None = None

    @property
    def place(self) -> tuple[bool, float, int, int]:
        """The order: by score, the largest first, those without one last; then by Label Studio's id."""
        return self.value is None, -(self.value or 0.0), self.ls_id, self.task_id


class Listing:
    """One project under one version; None: it has no model yet."""

    def __init__(self, session: Session, project: Project, version: str | None, board: Board | None) -> None:
        self.session, self.project, self.version, self.board = session, project, version, board
        self._parts = len({control["data_key"] for control in (project.control or {}).get("controls", [])})
        self._prediction = aliased(Prediction)

    def page(self, wish: Wish) -> tuple[list[Found], Cursor | None]:
        """The rows of a page, and where the next one begins; None at the end. Raises Unsortable."""
        if wish.state == "queue" and self.board is None:
            return [], None
        if wish.state in ("waiting", "failed") or self.board is None:
            rows = self._unscored(wish, wish.after)
        else:
            rows = self._scored(wish)
            if len(rows) <= wish.limit and wish.state != "queue":
                after = wish.after if wish.after is not None and wish.after.value is None else None
                rows += self._unscored(wish, after, limit=wish.limit + 1 - len(rows))
        shown = (wish.after.shown if wish.after else 0) + wish.limit
        last = rows[wish.limit - 1] if len(rows) > wish.limit else None
        rows = rows[: wish.limit]
        return rows, Cursor(last.value, last.ls_id, last.task_id, shown) if last is not None else None

    def count(self, wish: Wish) -> int:
        """Tasks of Label Studio in all pages together."""
        statement = select(func.count(func.distinct(Task.ls_id))).where(*self._filters(wish))
        if wish.state == "queue":
            statement = statement.where(self._is_scored())
        elif wish.state == "waiting" and self.version is not None:
            statement = statement.where(~self._any_scored() if self._parts > 1 else ~self._is_scored())
        return self.session.scalar(statement) or 0

    def _scored(self, wish: Wish) -> list[Found]:
        if wish.after is not None and wish.after.value is None:
            return []
        if wish.batch or wish.group or wish.state in ("labelled", "skipped"):
            rows = self._read(self._joined().where(*self._filters(wish), self._is_scored()).limit(FEW + 1))
            if len(rows) <= FEW:
                return self._sort(rows, wish)[: wish.limit + 1]
        return self._walk(wish)

    def _walk(self, wish: Wish) -> list[Found]:
        board = self._board()
        order = board.order(self.session, wish.by)
        place = order.start(wish.after.value) if wish.after is not None and wish.after.value is not None else 0
        step, found = STEP, list[Found]()
        while place < len(order.keys) and len(found) <= wish.limit:
            end = order.whole_ties(place + step)
            keys = order.keys[place:end]
            found += self._sort(self._of_keys(keys, wish), wish)
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

    def _sort(self, rows: Sequence[Found], wish: Wish) -> list[Found]:
        """With their scores, in order, those after the cursor; of a task's images the first alone."""
        rows = self._with_values(rows, wish.by)
        after = Found(wish.after.task_id, wish.after.ls_id, 0, wish.after.value).place if wish.after else None
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
            for row in sorted(self._with_values(siblings, wish.by), key=lambda row: row.place):
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
        touched = exists().where(Label.task_id == Task.id, Label.current, ~Label.deleted)
        broken = exists().where(self._answers(), self._prediction.error.is_not(None))
        match wish.state:
            case "queue":
                return [ready, ~touched]
            case "labelled":
                return [touched, drawn()]
            case "skipped":
                return [touched, ~drawn()]
            case "waiting":
                return [Task.state.in_(("new", "ready")), ~touched, ~broken]
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
