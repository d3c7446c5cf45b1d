"""Predictions and embeddings that nobody needs any more leave the pool, some at a time; labels and events never do."""

from datetime import timedelta

from sqlalchemy import ColumnElement, delete, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import (
    Batch,
    Champion,
    Embedding,
    Label,
    Prediction,
    PredictionVersion,
    Project,
    Push,
    Rank,
    Score,
    Task,
    utcnow,
)

AT_ONCE = 500
"""Rows in one transaction: no other writer should wait for all of them."""


def drop_old_predictions(pool: Pool, *, days: float, limit: int = 1_000_000_000, dry_run: bool = False) -> int:
    """Delete predictions, with their scores, and ranks that are older than `days` and needed by nobody.

    Returns how many rows went, at most about `limit`; with `dry_run` how many would. 0 days: all are kept. Needed,
    whatever their age, are those of `needed_versions`, those that stand in Label Studio, and what annotators were
    shown before they drew. The masks' blobs go with the store's next clean-up.
    """
    if not days:
        return 0
    if dry_run:
        with pool.read() as session:
            counts = [select(func.count(kind.id)).where(*_old(session, kind, days)) for kind in (Prediction, Rank)]
            return sum(session.scalar(count) or 0 for count in counts)
    dropped = 0
    while dropped < limit:
        count = 0
        for kind in (Prediction, Rank):
            with pool.write() as session:
                old = select(kind.id).where(*_old(session, kind, days)).order_by(kind.id).limit(AT_ONCE)
                ids = session.scalars(old).all()
                if kind is Prediction:
                    session.execute(delete(Score).where(Score.prediction_id.in_(ids)))
                session.execute(delete(kind).where(kind.id.in_(ids)))
            count += len(ids)
        dropped += count
        if not count:
            break
    if dropped:
        with pool.write() as session:
            record(session, "predictions.forgotten", data={"count": dropped, "days": days})
    return dropped


def drop_stray_embeddings(pool: Pool, *, limit: int = 1_000_000_000) -> int:
    """Delete the embeddings of images that no task shows any more, at most about `limit`; return how many went."""
    shown = exists().where(Task.image_digest == Embedding.image_digest, Task.deleted_at.is_(None))
    dropped = 0
    while dropped < limit:
        with pool.write() as session:
            digests = session.scalars(select(Embedding.image_digest).where(~shown).distinct().limit(AT_ONCE)).all()
            session.execute(delete(Embedding).where(Embedding.image_digest.in_(digests)))
        if not digests:
            break
        dropped += len(digests)
    return dropped


def needed_versions(session: Session) -> set[str]:
    """Prediction versions that are served, were served before, may be served next, or fill an open batch."""
    found: set[str | None] = set()
    for served, previous in session.execute(select(Project.served_version, Project.previous_version)):
        found |= {served, previous}
    for champion in session.scalars(select(Champion)):
        found.add(champion.version_id)
        # What a rollback serves again at once, and what a person may promote.
        kept = [number for number in (champion.previous_model_id, champion.challenger_id) if number is not None]
        found.update(session.scalars(select(PredictionVersion.id).where(PredictionVersion.model_id.in_(kept))))
    found.update(session.scalars(select(Batch.version_id).where(Batch.closed_at.is_(None))))
    return {version for version in found if version is not None}


def _old(session: Session, kind: type[Prediction | Rank], days: float) -> tuple[ColumnElement[bool], ...]:
    part = aliased(Task)
    parents = select(Label.parent_prediction).where(Label.parent_prediction.is_not(None))
    shown = exists().where(
        Push.version_id == kind.version_id,
        Push.task_id == Task.id,
        # A push stands for all images of its task.
        part.project_id == Task.project_id,
        part.ls_id == Task.ls_id,
        part.image_digest == kind.image_digest,
        or_(Push.gone_at.is_(None), Push.ls_prediction_id.in_(parents)),
    )
    before = utcnow() - timedelta(days=days)
    return kind.created_at < before, kind.version_id.not_in(needed_versions(session)), ~shown
