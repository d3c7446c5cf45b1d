"""Batches: images that a strategy chose, locked in an order. A project has at most one that is open."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from maskloop_learner.pool.events import record
from maskloop_learner.pool.schema import Batch, BatchItem, Task, utcnow
from maskloop_learner.select.candidates import Pick
from maskloop_learner.select.order import MOST_MEMBERS

Ended = Literal["closed", "undone"]


class BatchError(ValueError):
    """A batch cannot be made, found or ended; the message says why and what to do."""


def create_batch(
    session: Session,
    project_id: int,
    picks: Sequence[Pick],
    *,
    strategy: str,
    seed: int,
    options: Mapping[str, Any],
    version_id: str | None,
    by: str,
    note: str = "",
) -> Batch:
    """Lock the picks, in their order, as the project's open batch.

    version_id: the prediction version that they were chosen by. Raises BatchError when a batch is open already, also
    for the second of two who ask at the same time, and when there is nothing to lock.
    """
    if not picks:
        raise BatchError("a batch needs at least one image, got none; import images, or wait until they are fetched")
    if len(picks) > MOST_MEMBERS:
        raise BatchError(f"a batch has {MOST_MEMBERS} images at most, got {len(picks)}; choose fewer")
    refuse_second(session, project_id)
    last = session.scalar(select(func.max(Batch.number)).where(Batch.project_id == project_id)) or 0
    batch = Batch(
        project_id=project_id,
        number=last + 1,
        state="open",
        strategy=strategy,
        seed=seed,
        options=dict(options),
        version_id=version_id,
        created_by=by,
        note=note,
    )
    session.add(batch)
    try:
        session.flush()
    except IntegrityError as error:
        # The index ux_batches_open: somebody was quicker between our look and our insert.
        raise BatchError(_taken(last + 1)) from error
    for position, pick in enumerate(picks, 1):
        item = BatchItem(batch_id=batch.id, task_id=pick.id, position=position, slot=pick.slot, score=pick.score)
        item.reason, item.figures = pick.reason, dict(pick.figures)
        session.add(item)
    session.flush()
    data = {"strategy": strategy, "images": len(picks), "seed": seed, "options": dict(options), "by": by}
    record(session, "batch.created", project_id=project_id, subject=str(batch.number), data=data)
    return batch


def refuse_second(session: Session, project_id: int) -> None:
    """Raise BatchError when a batch of the project is open."""
    if (before := find_open(session, project_id)) is not None:
        raise BatchError(_taken(before.number))


def find_open(session: Session, project_id: int) -> Batch | None:
    """The project's open batch."""
    return session.scalar(select(Batch).where(Batch.project_id == project_id, Batch.state == "open"))


def list_batches(session: Session, project_id: int) -> list[Batch]:
    """All of a project's batches, the oldest first."""
    return list(session.scalars(select(Batch).where(Batch.project_id == project_id).order_by(Batch.number)))


def find_batch(session: Session, project_id: int, number: int | None = None) -> Batch:
    """The batch of this number; without one the open batch, or else the last. Raises BatchError for none."""
    found = list_batches(session, project_id)
    if not found:
        raise BatchError("this project has no batch yet; `maskloop batch create` makes one")
    if number is None:
        return next((batch for batch in found if batch.state == "open"), found[-1])
    for batch in found:
        if batch.number == number:
            return batch
    raise BatchError(f"this project has no batch {number!r}; it has 1 to {found[-1].number}")


def end_batch(session: Session, batch: Batch, state: Ended, *, by: str, why: str = "") -> None:
    """Close or undo an open batch: what is left of it is served in the order of uncertainty again.

    Labels that were made in it stay, and keep saying so. Raises BatchError for one that has ended, also when somebody
    else ends it at the same time.
    """
    moment = utcnow()
    changed = session.execute(
        update(Batch).where(Batch.id == batch.id, Batch.state == "open").values(state=state, closed_at=moment)
    )
    if changed.rowcount != 1:  # type: ignore[attr-defined]
        now = session.get_one(Batch, batch.id, populate_existing=True)
        since = f"{now.closed_at:%Y-%m-%d %H:%M:%S} UTC"
        raise BatchError(f"batch {now.number} is {now.state} since {since}; only an open one can end")
    data = {"strategy": batch.strategy, "by": by, "why": why}
    record(session, f"batch.{state}", project_id=batch.project_id, subject=str(batch.number), data=data)


def batch_at(session: Session, task: Task, moment: datetime) -> int | None:
    """Id of the batch that a task was in at a moment: it was open then, whatever has become of it since."""
    first = select(Task.id).where(Task.project_id == task.project_id, Task.ls_id == task.ls_id)
    statement = (
        select(Batch.id)
        .join(BatchItem, BatchItem.batch_id == Batch.id)
        .where(BatchItem.task_id.in_(first), Batch.created_at <= moment)
        .where(or_(Batch.closed_at.is_(None), Batch.closed_at >= moment))
        .order_by(Batch.id.desc())
        .limit(1)
    )
    return session.scalar(statement)


def _taken(number: int) -> str:
    return (
        f"batch {number} of this project is open, and one at a time is served; "
        f"end it first with `maskloop batch close` or `maskloop batch undo`"
    )
