"""The tasks of a batch: how each of them stands, and the serving scores that give them their order."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from sqlalchemy import exists, select
from sqlalchemy.orm import Session, aliased

from maskloop_learner.pool.batches import end_batch, find_open
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import answers, current_version, drawn, open_places
from maskloop_learner.pool.schema import Batch, BatchItem, Label, Prediction, Task
from maskloop_learner.select.order import batch_score

Standing = Literal["waiting", "labelled", "skipped", "failed", "deleted"]
STANDINGS: tuple[Standing, ...] = get_args(Standing)
"""Of a task in its batch; `failed` where its image cannot be read or predicted."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A task of a batch."""

    position: int
    """From 1: the order in which it is served."""
    task_id: int
    ls_id: int
    url: str
    slot: str
    score: float | None
    """What the strategy ranked it by."""
    reason: str
    figures: dict[str, Any] = field(default_factory=dict)
    state: Standing


@dataclass(frozen=True)
class _Part:
    """One image of a task."""

    deleted: bool
    drawn: bool
    skipped: bool
    usable: bool


def members(session: Session, batch: Batch) -> list[Member]:
    """The batch's tasks in its order, with how each stands now."""
    part = aliased(Task)
    statement = (
        select(BatchItem, Task.ls_id, Task.url, part.id)
        .join(Task, Task.id == BatchItem.task_id)
        .join(part, (part.project_id == Task.project_id) & (part.ls_id == Task.ls_id))
        .where(BatchItem.batch_id == batch.id)
        .order_by(BatchItem.position, part.id)
    )
    rows = session.execute(statement).all()
    known = _parts(session, [batch])
    found: dict[int, tuple[BatchItem, int, str, list[_Part]]] = {}
    for item, ls_id, url, number in rows:
        found.setdefault(item.id, (item, ls_id, url, []))[3].append(known[number])
    return [
        Member(
            position=item.position,
            task_id=item.task_id,
            ls_id=ls_id,
            url=url,
            slot=item.slot,
            score=item.score,
            reason=item.reason,
            figures=dict(item.figures),
            state=_standing(parts),
        )
        for item, ls_id, url, parts in found.values()
    ]


def tally(session: Session, batches: Sequence[Batch]) -> dict[int, dict[Standing, int]]:
    """Id of each batch, all of one project -> how many of its tasks stand how; reads figures only, no reasons."""
    part = aliased(Task)
    statement = (
        select(BatchItem.batch_id, BatchItem.task_id, part.id)
        .join(Task, Task.id == BatchItem.task_id)
        .join(part, (part.project_id == Task.project_id) & (part.ls_id == Task.ls_id))
        .where(BatchItem.batch_id.in_([batch.id for batch in batches]))
    )
    known = _parts(session, batches)
    parts: dict[tuple[int, int], list[_Part]] = {}
    for batch, task, number in session.execute(statement):
        parts.setdefault((batch, task), []).append(known[number])
    found: dict[int, dict[Standing, int]] = {batch.id: dict.fromkeys(STANDINGS, 0) for batch in batches}
    for (batch, _), some in parts.items():
        found[batch][_standing(some)] += 1
    return found


def count_states(rows: Iterable[Member]) -> dict[Standing, int]:
    """How many of a batch's tasks stand how."""
    found = Counter(row.state for row in rows)
    return {state: found[state] for state in STANDINGS}


def close_finished(pool: Pool, project_id: int) -> int | None:
    """Close the open batch when none of its tasks waits any longer; return its number if it was closed."""
    with pool.read() as session:
        batch = find_open(session, project_id)
        if batch is None or _waits(members(session, batch)):
            return None
    with pool.write() as session:
        # A label may have been deleted since, and somebody may have undone the batch.
        again = session.get_one(Batch, batch.id)
        if again.state != "open" or _waits(members(session, again)):
            return None
        end_batch(session, again, "closed", by="sync", why="no image of it waits")
        return again.number


def batch_scores(session: Session, project_id: int) -> dict[int, float]:
    """Label Studio's id of each task in the open batch -> its serving score; empty without an open batch."""
    return {ls_id: batch_score(position) for ls_id, position in open_places(session, project_id).items()}


def _parts(session: Session, batches: Sequence[Batch]) -> dict[int, _Part]:
    """Task id -> how one image of these batches' tasks stands."""
    if not batches:
        return {}
    project = batches[0].project_id
    version = current_version(session, project)
    mine = aliased(Task)
    ls_ids = select(mine.ls_id).join(BatchItem, BatchItem.task_id == mine.id)
    ls_ids = ls_ids.where(BatchItem.batch_id.in_([batch.id for batch in batches]))
    skipped = exists().where(Label.task_id == Task.id, Label.current, Label.cancelled)
    broken = exists().where(answers(Prediction, version or ""), Prediction.error.is_not(None))
    statement = select(Task.id, Task.deleted_at, Task.state, drawn(), skipped, broken).where(
        Task.project_id == project, Task.ls_id.in_(ls_ids)
    )
    return {
        number: _Part(gone is not None, drawn_on, passed, state != "failed" and not unpredicted)
        for number, gone, state, drawn_on, passed, unpredicted in session.execute(statement)
    }


def _standing(parts: Iterable[_Part]) -> Standing:
    there = [part for part in parts if not part.deleted]
    if not there:
        return "deleted"
    if any(part.drawn for part in there):
        return "labelled"
    if any(part.skipped for part in there):
        return "skipped"
    return "waiting" if any(part.usable for part in there) else "failed"


def _waits(found: Iterable[Member]) -> bool:
    return any(member.state == "waiting" for member in found)
