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
    """Tasks whose labels were made in it, also after it was undone."""
    before: Version | None = None
    """The last model that has learnt from none of its labels."""
    after: Version | None = None
    """The last model that has learnt from some, and from none of a later batch."""
    learnt: bool = False
    """Whether any model has learnt from some of its labels."""

    @property
    def gain(self) -> float | None:
        """Dice after less Dice before, on the same validation images; None where these are others, or not known.

        Validation grows with the labels: a difference of two figures on different images tells of the images too.
        """
        if self.before is None or self.after is None:
            return None
        if self.after.parent == self.before.model and self.after.lead is not None:
            return self.after.lead
        old, new = self.before.dice, self.after.dice
        # It only ever grows, so that as many are the same.
        if old is None or new is None or old.images is None or old.images != new.images:
            return None
        return new.mean - old.mean


def find_bought(session: Session, project_id: int, models: Models) -> list[Bought]:
    """The last batches of a project, the oldest first; then what was labelled outside of any, if anything was."""
    summaries, _ = list_summaries(session, project_id, limit=SHOWN)
    counts = _labelled(session, project_id)
    models_by_age = _learnt(session, models, _owners(session, project_id))
    learnt: set[int] = set().union(*(batches for _, batches in models_by_age))
    found = [
        Bought(
            batch=each,
            labels=counts.get(each.number, 0),
            learnt=each.number in learnt,
            **_models(each.number, models_by_age),
        )
        for each in reversed(summaries)
    ]
    outside = counts.get(None, 0)
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


def _owners(session: Session, project_id: int) -> dict[int, int]:
    """Label of any version -> the number of the batch in which it was made."""
    statement = (
        select(Label.id, Batch.number).join(Batch, Batch.id == Label.batch_id).where(Batch.project_id == project_id)
    )
    return {label: number for label, number in session.execute(statement)}  # noqa: C416 - typed rows


def _labelled(session: Session, project_id: int) -> dict[int | None, int]:
    """Number of a batch, None for outside of any -> how many tasks have a label that was made in it."""
    statement = (
        select(Batch.number, func.count(func.distinct(Task.ls_id)))
        .select_from(Label)
        .join(Task, Task.id == Label.task_id)
        .outerjoin(Batch, Batch.id == Label.batch_id)
        .where(Task.project_id == project_id, Task.deleted_at.is_(None))
        .where(Label.current, ~Label.cancelled, ~Label.deleted)
        .group_by(Batch.number)
    )
    return {number: count for number, count in session.execute(statement)}  # noqa: C416 - typed rows


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
