"""Old models leave the store; their rows, manifests and figures stay, and with them the history.

Only weights go, only of models that nothing serves or would serve next, and never a file that another model has too.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_learner.pool.events import record
from maskloop_learner.pool.holds import is_held
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, PredictionVersion, Project, Round, utcnow


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """A model whose weights were removed, or would be."""

    model: int
    digest: str
    removed: bool
    """False: the file stays, another model has the same weights."""


def needed_models(session: Session, project_id: int) -> dict[int, str]:
    """Model id -> why its weights must stay: it serves, served last, waits in shadow, or a training builds on it."""
    found: dict[int, str] = {}
    champion = session.get(Champion, project_id)
    project = session.get_one(Project, project_id)
    for version in (project.previous_version, project.served_version):
        row = session.get(PredictionVersion, version) if version is not None else None
        if row is not None:
            found[row.model_id] = "Label Studio shows its masks, or would after a rollback"
    if champion is not None:
        reasons = {
            champion.previous_model_id: "a rollback would serve it",
            champion.challenger_id: "it waits in shadow",
            champion.model_id: "it is the champion",
        }
        found |= {number: why for number, why in reasons.items() if number is not None}
    under_way = select(Round.model_id).where(Round.project_id == project_id, Round.ended_at.is_(None))
    found |= {number: "a training is under way with it" for number in session.scalars(under_way) if number}
    return found


def prunable(session: Session, project_id: int, *, keep: int, before: datetime | None = None) -> list[Model]:
    """Models whose weights may go, the oldest first: all but the `keep` newest and the needed ones; made `before`."""
    statement = select(Model).where(Model.project_id == project_id, Model.pruned_at.is_(None)).order_by(Model.id)
    models = list(session.scalars(statement))
    stay = set(needed_models(session, project_id)) | {
        model.id for model in models[len(models) - min(keep, len(models)) :]
    }
    return [model for model in models if model.id not in stay and (before is None or model.created_at < before)]


def prune(pool: Pool, project_id: int, model_ids: Collection[int], *, by: str) -> list[Pruned]:
    """Remove the weights of these models, but of none that has come to be needed meanwhile; return which went.

    A process that is killed in between leaves a file that no model names; pruning again does not find it, the
    store's own clean-up does.
    """
    with pool.write() as session:
        # Held first, then looked at: whoever promotes one of them meanwhile waits, or has made it the champion.
        statement = select(Model).where(Model.id.in_(sorted(model_ids)), Model.project_id == project_id)
        models = list(session.scalars(statement.order_by(Model.id).with_for_update()))
        needed = needed_models(session, project_id)
        gone = [model for model in models if model.id not in needed and model.pruned_at is None]
        for model in gone:
            model.pruned_at, model.fault = utcnow(), None
            data = {"weights": model.weights_digest, "by": by}
            record(session, "model.pruned", project_id=project_id, subject=str(model.id), data=data)
    return [
        Pruned(model=model.id, digest=model.weights_digest, removed=_remove(pool, model.weights_digest))
        for model in gone
    ]


def blobs_in_use(session: Session) -> set[str]:
    """Digests of the weights that the store must keep: those of all models that are not pruned."""
    return set(session.scalars(select(Model.weights_digest).where(Model.pruned_at.is_(None))))


def _remove(pool: Pool, digest: str) -> bool:
    if is_held(pool):
        return False  # a backup is being made; the store's own clean-up comes by later
    # Within a transaction that writes: a model that comes in with the same weights is seen, or sees them gone.
    with pool.write() as session:
        other = select(Model.id).where(Model.weights_digest == digest, Model.pruned_at.is_(None)).limit(1)
        if session.scalar(other) is not None:
            return False
        return pool.store.delete("weights", digest)
