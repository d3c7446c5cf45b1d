"""What each batch of labels bought: the model's Dice before it learnt from them, and after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from maskloop_backend.overview.models import Figure, Models, Version
from maskloop_learner.pool.batches import list_batches
from maskloop_learner.pool.schema import BatchItem, Label, Model, Snapshot, Task

RECENT = 40
"""Models whose snapshots are read, the newest: each is a list of all labels until then."""


@dataclass(frozen=True, kw_only=True)
class Bought:
    """One batch, or all labels that were made outside of any."""

    number: int | None
    """None: outside of any batch."""
    strategy: str
    state: str
    """open, closed or undone; "" outside of any."""
    size: int | None
    labels: int
    """Tasks of it that are labelled."""
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

    @property
    def figures(self) -> tuple[Figure | None, Figure | None]:
        """Before and after."""
        return (self.before.dice if self.before else None, self.after.dice if self.after else None)


def find_bought(session: Session, project_id: int, models: Models) -> list[Bought]:
    """The batches of a project, the oldest first; then what was labelled outside of them, if anything was."""
    batches = list_batches(session, project_id)
    sizes = _sizes(session, [batch.id for batch in batches])
    labels, owners = _labels(session, project_id)
    learnt = _learnt(session, models, owners)
    found = [
        Bought(
            number=batch.number,
            strategy=batch.strategy,
            state=batch.state,
            size=sizes.get(batch.id, 0),
            labels=labels.get(batch.id, 0),
            **_models(batch.id, {each.id for each in batches if each.number > batch.number}, learnt),
        )
        for batch in batches
    ]
    if labels.get(None):
        found.append(Bought(number=None, strategy="", state="", size=None, labels=labels[None]))
    return found


def _models(
    batch: int, later: set[int], learnt: Sequence[tuple[Version, set[int | None]]]
) -> dict[str, Version | None]:
    """`before` and `after` of a batch. `learnt`: each model with the batches that it knows labels of, by age."""
    before = after = None
    for version, batches in learnt:
        if batch not in batches:
            before = version if after is None else before
        elif not later & batches:
            after = version
    return {"before": before if after is not None else None, "after": after}


def _sizes(session: Session, batch_ids: Sequence[int]) -> dict[int, int]:
    statement = select(BatchItem.batch_id, func.count()).where(BatchItem.batch_id.in_(batch_ids))
    return {batch: number for batch, number in session.execute(statement.group_by(BatchItem.batch_id))}  # noqa: C416


def _labels(session: Session, project_id: int) -> tuple[Mapping[int | None, int], Mapping[int, int | None]]:
    """Batch -> labelled tasks; label -> batch, of every version of every label."""
    mine = select(Label.id, Label.batch_id, Task.ls_id, Label.current & ~Label.cancelled)
    statement = mine.join(Task, Task.id == Label.task_id).where(Task.project_id == project_id, ~Label.deleted)
    owners: dict[int, int | None] = {}
    tasks: dict[int | None, set[int]] = {}
    for number, batch, task, counts in session.execute(statement):
        owners[number] = batch
        if counts:
            tasks.setdefault(batch, set()).add(task)
    return {batch: len(found) for batch, found in tasks.items()}, owners


def _learnt(
    session: Session, models: Models, owners: Mapping[int, int | None]
) -> list[tuple[Version, set[int | None]]]:
    """The newest models, the oldest of these first, with the batches whose labels are in their snapshots."""
    recent = models.versions[:RECENT]
    statement = (
        select(Model.id, Snapshot.label_ids)
        .join(Snapshot, Snapshot.id == Model.snapshot_id)
        .where(Model.id.in_([version.model for version in recent]))
    )
    snapshots = {model: ids for model, ids in session.execute(statement)}  # noqa: C416 - typed rows
    return [
        (version, {owners.get(number) for number in snapshots.get(version.model, ())}) for version in reversed(recent)
    ]
