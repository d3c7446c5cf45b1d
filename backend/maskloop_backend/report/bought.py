"""What each batch of labels bought: the model's Dice before it learnt from them, and after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from maskloop_backend.overview.batches import Summary, list_summaries
from maskloop_backend.overview.models import Models, Version
from maskloop_learner.pool.schema import Batch, Label, Model, Snapshot, Task

SHOWN = 15
"""Batches that are told, the newest."""
RECENT = 40
"""Models whose snapshots are read, the newest: each is a list of all labels until then."""


@dataclass(frozen=True, kw_only=True)
class Bought:
    """One batch, or all labels that were made outside of any."""

    batch: Summary | None
    """None: outside of any."""
    labels: int
    """Tasks that are labelled."""
    before: Version | None = None
    """The last model that has learnt from none of its labels."""
    after: Version | None = None
    """The last model that has learnt from some, and from none of a later batch."""

    @property
    def gain(self) -> float | None:
        """Dice after less Dice before; None where either is not known."""
        if self.before is None or self.after is None or self.before.dice is None or self.after.dice is None:
            return None
        return self.after.dice.mean - self.before.dice.mean


def find_bought(session: Session, project_id: int, models: Models) -> list[Bought]:
    """The last batches of a project, the oldest first; then what was labelled outside of any, if anything was."""
    summaries, _ = list_summaries(session, project_id, limit=SHOWN)
    numbers, outside = _owners(session, project_id)
    learnt = _learnt(session, models, numbers)
    found = [
        Bought(batch=each, labels=each.counts["labelled"], **_models(each.number, learnt))
        for each in reversed(summaries)
    ]
    return [*found, Bought(batch=None, labels=outside)] if outside else found


def _models(batch: int, learnt: Sequence[tuple[Version, set[int]]]) -> dict[str, Version | None]:
    """`before` and `after` of a batch. learnt: each model, by age, with the numbers of the batches that it knows."""
    before = after = None
    for version, batches in learnt:
        if batch not in batches:
            before = version if after is None else before
        elif max(batches) == batch:
            after = version
    return {"before": before if after is not None else None, "after": after}


def _owners(session: Session, project_id: int) -> tuple[dict[int, int], int]:
    """Label of any version -> its batch's number, and how many tasks are labelled outside of any."""
    in_batches = (
        select(Label.id, Batch.number).join(Batch, Batch.id == Label.batch_id).where(Batch.project_id == project_id)
    )
    outside = (
        select(func.count(func.distinct(Task.ls_id)))
        .join(Label, Label.task_id == Task.id)
        .where(Task.project_id == project_id, Task.deleted_at.is_(None))
        .where(Label.current, ~Label.cancelled, Label.batch_id.is_(None))
    )
    numbers = {label: number for label, number in session.execute(in_batches)}  # noqa: C416 - typed rows
    return numbers, session.scalar(outside) or 0


def _learnt(session: Session, models: Models, numbers: Mapping[int, int]) -> list[tuple[Version, set[int]]]:
    """The newest models, the oldest of these first, with the batches whose labels are in their snapshots."""
    recent = models.versions[:RECENT]
    statement = (
        select(Model.id, Snapshot.label_ids)
        .join(Snapshot, Snapshot.id == Model.snapshot_id)
        .where(Model.id.in_([version.model for version in recent]))
    )
    snapshots = {model: ids for model, ids in session.execute(statement)}  # noqa: C416 - typed rows
    return [
        (version, {numbers[label] for label in snapshots.get(version.model, ()) if label in numbers})
        for version in reversed(recent)
    ]
