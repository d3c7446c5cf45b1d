"""When a training is due: compares what is with what should be, so nothing that was missed stays missed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from croniter import croniter
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from maskloop_learner.pool.briefs import Brief, newest_briefs
from maskloop_learner.pool.events import record
from maskloop_learner.pool.manifest import MergeRule
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project, Round, Snapshot, TrainRequest, utcnow
from maskloop_learner.pool.snapshot import NoLabels, freeze_snapshot
from maskloop_learner.settings import Settings
from maskloop_queue.timing import labels_are_due, latest_past

ACTIVE = ("queued", "running")
BACKOFF = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2))
LONGEST_PAUSE = BACKOFF[-1]
"""Of a round between two tries."""


class RoundChanged(RuntimeError):
    """Another round is open than the one that was looked at, or none is."""


def request_training(pool: Pool, project_id: int, *, cause: str) -> int:
    """Note that somebody wants a training now; `sync` answers it with a round. Returns the request's id."""
    with pool.write() as session:
        request = TrainRequest(project_id=project_id, cause=cause)
        session.add(request)
        session.flush()
        record(session, "training.requested", project_id=project_id, subject=str(request.id), data={"cause": cause})
        return request.id


def withdraw_requests(session: Session, project_id: int, *, by: str) -> int:
    """Take back the wishes that no round has answered; returns how many there were."""
    found = open_requests(session, project_id)
    for request in found:
        request.refused = f"cancelled by {by}"
    if found:
        record(session, "training.withdrawn", project_id=project_id, data={"by": by, "requests": len(found)})
    return len(found)


def active_round(session: Session, project_id: int) -> Round | None:
    """The round that is queued, waiting for its retry or running."""
    return session.scalar(
        select(Round).where(Round.project_id == project_id, Round.state.in_(ACTIVE)).order_by(Round.id).limit(1)
    )


@dataclass(frozen=True)
class Labels:
    """A project's labels at one moment."""

    images: int
    """With a label that can be learnt from."""
    fresh: Sequence[Brief]
    """Those added or changed since the watermark: the last snapshot that was attempted."""


def count_labels(session: Session, project_id: int, merge: MergeRule = "latest") -> Labels:
    """Look through a project's labels, once."""
    statement = (
        select(Snapshot.label_ids)
        .join(Round, Round.snapshot_id == Snapshot.id)
        .where(Round.project_id == project_id)
        .order_by(Round.id.desc())
        .limit(1)
    )
    seen = set(session.scalar(statement) or ())
    # Only what a snapshot would hold: a label that a newer one of the same image hides would count for ever.
    chosen = newest_briefs(session, project_id, merge)
    return Labels(len(chosen), [brief for briefs in chosen.values() for brief in briefs if brief.id not in seen])


def new_labels(session: Session, project_id: int, merge: MergeRule = "latest") -> int:
    """How many labels were added or changed since the watermark."""
    return len(count_labels(session, project_id, merge).fresh)


def cron_is_due(expression: str, *, since: datetime, now: datetime) -> bool:
    """Whether the cron expression (UTC) had a moment in (since, now]."""
    moment: datetime = croniter(expression, since).get_next(datetime)
    return moment <= now


def due_cause(
    session: Session, project: Project, settings: Settings, *, now: datetime, labels: Labels | None = None
) -> str | None:
    """Why a training should start now, or None. `labels` as they were counted just now, if they were."""
    if active_round(session, project.id) is not None:
        return None
    if wishes := open_requests(session, project.id):
        return wishes[0].cause
    if project.paused_at is not None:
        return None
    fresh = (labels or count_labels(session, project.id, settings.merge_rule)).fresh
    if settings.trigger_labels and labels_are_due(
        [label.created_at for label in fresh],
        now=now,
        threshold=settings.trigger_labels,
        quiet=timedelta(seconds=settings.trigger_quiet),
        patience=timedelta(seconds=settings.trigger_max_wait),
    ):
        return "labels"
    if settings.trigger_cron and fresh and _has_passed(session, project, settings.trigger_cron, fresh, now=now):
        return "cron"
    return None


def _has_passed(session: Session, project: Project, cron: str, fresh: Sequence[Brief], *, now: datetime) -> bool:
    """Whether the expression had a moment since the last training at which one of the fresh labels was there.

    Label Studio's own clock counts too: `sync` may have been down at that moment.
    """
    last = session.scalar(select(Round.created_at).where(Round.project_id == project.id).order_by(Round.id.desc()))
    first = min(min(label.created_at, label.ls_updated_at) for label in fresh)
    since = latest_past([last or project.created_at, first], now=now)
    return since is None or cron_is_due(cron, since=since, now=now)


def start_due_round(pool: Pool, project_id: int, settings: Settings) -> int | None:
    """Freeze a snapshot and open a round if a training is due; return the round's id.

    None as well when another process, or a person's hurry, opened one meanwhile.
    """
    with pool.read() as session:
        cause = due_cause(session, session.get_one(Project, project_id), settings, now=utcnow())
        asked = [request.id for request in open_requests(session, project_id)]
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
            for request in open_requests(session, project_id):
                if request.id in asked:
                    request.refused = str(error)
            record(session, "training.refused", project_id=project_id, data={"reason": str(error)})
        return None
    try:
        return _open_round(pool, project_id, snapshot_id, cause=cause, asked=asked)
    except IntegrityError:
        # The database knows of one open round a project: another process was first.
        with pool.read() as session:
            if active_round(session, project_id) is None:
                raise
        return None


def _open_round(pool: Pool, project_id: int, snapshot_id: int, *, cause: str, asked: list[int]) -> int | None:
    with pool.write() as session:
        if active_round(session, project_id) is not None:
            return None
        wishes = [request for request in open_requests(session, project_id) if request.id in asked]
        if asked and not wishes:
            return None  # withdrawn meanwhile
        if not asked and session.get_one(Project, project_id).paused_at is not None:
            return None  # paused meanwhile
        opened = Round(project_id=project_id, snapshot_id=snapshot_id, cause=cause)
        session.add(opened)
        session.flush()
        # A wish uttered since the snapshot was frozen may be about labels that are not in it: the next round's.
        for request in wishes:
            request.round_id = opened.id
        record(session, "round.opened", project_id=project_id, subject=str(opened.id), data={"cause": cause})
        return opened.id


def open_requests(session: Session, project_id: int) -> list[TrainRequest]:
    """The wishes that no round has answered yet, the oldest first."""
    statement = (
        select(TrainRequest)
        .where(TrainRequest.project_id == project_id, TrainRequest.round_id.is_(None), TrainRequest.refused.is_(None))
        .order_by(TrainRequest.id)
    )
    return list(session.scalars(statement))
