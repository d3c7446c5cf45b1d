"""When a training is due: compares what is with what should be, so nothing that was missed stays missed."""

from datetime import datetime, timedelta

from croniter import croniter
from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_learner.pool.events import record
from maskloop_learner.pool.manifest import MergeRule
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project, Round, Snapshot, TrainRequest, utcnow
from maskloop_learner.pool.snapshot import NoLabels, freeze_snapshot
from maskloop_learner.pool.voices import voices
from maskloop_learner.settings import Settings

ACTIVE = ("queued", "running")
BACKOFF = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2))


def request_training(pool: Pool, project_id: int, *, cause: str) -> int:
    """Note that somebody wants a training now; `sync` answers it with a round. Returns the request's id."""
    with pool.write() as session:
        request = TrainRequest(project_id=project_id, cause=cause)
        session.add(request)
        session.flush()
        record(session, "training.requested", project_id=project_id, subject=str(request.id), data={"cause": cause})
        return request.id


def active_round(session: Session, project_id: int) -> Round | None:
    """The round that is queued, waiting for its retry or running."""
    return session.scalar(
        select(Round).where(Round.project_id == project_id, Round.state.in_(ACTIVE)).order_by(Round.id).limit(1)
    )


def new_labels(session: Session, project_id: int, merge: MergeRule = "latest") -> int:
    """How many labels were added or changed since the watermark: the last snapshot that was attempted."""
    statement = (
        select(Snapshot.label_ids)
        .join(Round, Round.snapshot_id == Snapshot.id)
        .where(Round.project_id == project_id)
        .order_by(Round.id.desc())
        .limit(1)
    )
    seen = set(session.scalar(statement) or ())
    # Only what a snapshot would hold: a label that a newer one of the same image hides would count for ever.
    return sum(row.label.id not in seen for rows in voices(session, project_id, merge).values() for row in rows)


def cron_is_due(expression: str, *, since: datetime, now: datetime) -> bool:
    """Whether the cron expression (UTC) had a moment in (since, now]."""
    moment: datetime = croniter(expression, since).get_next(datetime)
    return moment <= now


def due_cause(session: Session, project: Project, settings: Settings, *, now: datetime) -> str | None:
    """Why a training should start now, or None."""
    if active_round(session, project.id) is not None:
        return None
    request = _open_requests(session, project.id)
    if request:
        return request[0].cause
    fresh = new_labels(session, project.id, settings.merge_rule)
    if settings.trigger_labels and fresh >= settings.trigger_labels:
        return "labels"
    if settings.trigger_cron and fresh:
        last = session.scalar(select(Round.created_at).where(Round.project_id == project.id).order_by(Round.id.desc()))
        if cron_is_due(settings.trigger_cron, since=last or project.created_at, now=now):
            return "cron"
    return None


def start_due_round(pool: Pool, project_id: int, settings: Settings) -> int | None:
    """Freeze a snapshot and open a round if a training is due; return the round's id."""
    with pool.read() as session:
        cause = due_cause(session, session.get_one(Project, project_id), settings, now=utcnow())
    if cause is None:
        return None
    try:
        snapshot_id = freeze_snapshot(
            pool,
            project_id,
            share=settings.validation_share,
            merge=settings.merge_rule,
            near_duplicates=settings.near_duplicates,
        )
    except NoLabels as error:
        with pool.write() as session:
            for request in _open_requests(session, project_id):
                request.refused = str(error)
            record(session, "training.refused", project_id=project_id, data={"reason": str(error)})
        return None
    with pool.write() as session:
        if active_round(session, project_id) is not None:
            return None
        opened = Round(project_id=project_id, snapshot_id=snapshot_id, cause=cause)
        session.add(opened)
        session.flush()
        for request in _open_requests(session, project_id):
            request.round_id = opened.id
        record(session, "round.opened", project_id=project_id, subject=str(opened.id), data={"cause": cause})
        return opened.id


def _open_requests(session: Session, project_id: int) -> list[TrainRequest]:
    statement = (
        select(TrainRequest)
        .where(TrainRequest.project_id == project_id, TrainRequest.round_id.is_(None), TrainRequest.refused.is_(None))
        .order_by(TrainRequest.id)
    )
    return list(session.scalars(statement))
