"""What is at work for a project, what waits and what comes next, from the pool and, where it answers, from Redis."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from maskloop_backend.overview.failures import Failure, list_failures
from maskloop_backend.overview.happenings import CAUSES, Happening, read_happenings
from maskloop_backend.overview.next_training import NextTraining, look_ahead
from maskloop_backend.overview.queues import Queues
from maskloop_backend.readiness import Readiness, count, readiness
from maskloop_learner.pool.queries import current_version
from maskloop_learner.pool.schema import PredictionVersion, Project, Push, Rank, Round, TrainRequest
from maskloop_learner.settings import Settings
from maskloop_queue.queues import embedding_line
from maskloop_queue.triggers import ACTIVE, count_labels, open_requests

TRAININGS = 8
"""Of those that have ended, the last ones that are told."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One round, from the wish to its end."""

    round: int
    state: str
    """queued, running, promoted, shadow, rejected, failed or cancelled."""
    cause: str
    """Who or what started it, in words."""
    step: int
    steps: int
    """0 before it has said how many there are."""
    loss: float | None
    eta: float | None
    """Seconds until its last step, as it said; None when it does not run."""
    attempts: int
    failures: int
    reason: str
    """The gate's or the failure's words; "" before there are any."""
    model: int | None
    holder: str
    """Host and process id of the process that works on it."""
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    retry_at: datetime | None

    @property
    def seconds(self) -> float | None:
        """From its first step to its end, pauses included; None before."""
        return (self.ended_at - self.started_at).total_seconds() if self.started_at and self.ended_at else None

    @classmethod
    def of(cls, row: Round) -> "Training":
        """As the pool has it."""
        said: dict[str, Any] = row.progress or {}
        running = row.state == "running"
        return cls(
            round=row.id,
            state=row.state,
            cause=CAUSES.get(row.cause, row.cause),
            step=int(said.get("step", 0)),
            steps=int(said.get("steps", 0)),
            loss=said.get("loss"),
            eta=said.get("eta") if running else None,
            attempts=row.attempts,
            failures=row.failures,
            reason=row.reason or "",
            model=row.model_id,
            holder=" ".join((row.holder or "").split()[:2]) if running else "",
            created_at=row.created_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
            retry_at=row.retry_at,
        )


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A training that was asked for and has not been opened."""

    cause: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One kind of work on the project's images."""

    name: str
    done: int
    of: int
    waiting: int
    """Jobs of it in the queue, those at work included; 0 as well when Redis does not answer."""
    words: str
    """How far it is, for people."""

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is left."""
        return self.done >= self.of and not self.waiting


@dataclass(frozen=True, kw_only=True)
class Work:
    """All of it at one moment."""

    readiness: Readiness
    ahead: NextTraining
    training: Training | None
    """The one that is queued or runs."""
    wishes: tuple[Wish, ...]
    ended: tuple[Training, ...]
    """The newest first."""
    stages: tuple[Stage, ...]
    failures: tuple[Failure, ...]
    happenings: tuple[Happening, ...]
    queues: Queues
    owners: dict[str, str]
    """What a job is for (see `JobKind.subject`) -> title of its project."""

    @property
    def can_be_cancelled(self) -> bool:
        """Whether there is a training to end, or a wish to withdraw."""
        return self.training is not None or bool(self.wishes)


def read_work(session: Session, project: Project, settings: Settings, queues: Queues) -> Work:
    """Look at a project's work; changes nothing and asks nobody but the pool. `queues`: see `read_queues`."""
    labels = count_labels(session, project.id, settings.merge_rule)
    ready = readiness(session, project, settings, labels)
    rows = session.scalars(
        select(Round).where(Round.project_id == project.id).order_by(Round.id.desc()).limit(TRAININGS + 1)
    ).all()
    trainings = [Training.of(row) for row in rows]
    return Work(
        readiness=ready,
        ahead=look_ahead(session, project, settings, labels),
        training=next((each for each in trainings if each.state in ACTIVE), None),
        wishes=tuple(_wish(request) for request in open_requests(session, project.id)),
        ended=tuple(each for each in trainings if each.state not in ACTIVE)[:TRAININGS],
        stages=tuple(list_stages(session, project, ready, queues)),
        failures=tuple(list_failures(session, project, settings, queues, images_failed=ready.images_failed)),
        happenings=tuple(read_happenings(session, project.id)),
        queues=queues,
        owners=find_owners(session, queues.subjects),
    )


def find_owners(session: Session, subjects: set[str]) -> dict[str, str]:
    """What jobs are for -> title of the project; what is not known any more is left out."""
    titles = {row.id: row.title or f"project {row.ls_id}" for row in session.scalars(select(Project))}
    versions = select(PredictionVersion.id, PredictionVersion.project_id).where(PredictionVersion.id.in_(subjects))
    found = {version: titles[project] for version, project in session.execute(versions)}
    rounds = select(Round.id, Round.project_id).where(Round.id.in_([int(each) for each in subjects if each.isdigit()]))
    found |= {str(number): titles[project] for number, project in session.execute(rounds)}
    lines = {embedding_line(project): title for project, title in titles.items()}
    return found | {each: lines[each] for each in subjects if each in lines}


def list_stages(session: Session, project: Project, found: Readiness, queues: Queues) -> Iterator[Stage]:
    """What is done to the images, in its order: fetched, ranked, drawn, embedded, sent to Label Studio."""
    there = found.images_ready + found.images_waiting
    yield Stage(
        name="Images fetched",
        done=found.images_ready,
        of=there,
        waiting=0,
        words=f"{found.images_ready:,} of {there:,}",
    )
    version = current_version(session, project.id)
    if version is not None:
        if ranking := queues.waiting("rank", [version]):
            ranked = session.scalar(select(func.count(Rank.id)).where(Rank.version_id == version)) or 0
            total = max(found.images_ready, ranked)
            yield Stage(
                name="Ranked by uncertainty",
                done=ranked,
                of=total,
                waiting=ranking,
                words=f"{ranked:,} of about {total:,}",
            )
        drawn = found.images_ready - found.unpredicted
        yield Stage(
            name="Masks drawn",
            done=drawn,
            of=found.images_ready,
            waiting=queues.waiting("score", [version]),
            words=f"{count(found.unpredicted, 'unlabelled image')} to go" if found.unpredicted else "all there are",
        )
    if embedding := queues.waiting("embed", [embedding_line(project.id)]):
        yield Stage(
            name="Compared with each other",
            done=0,
            of=embedding,
            waiting=embedding,
            words=f"{embedding:,} jobs wait or run",
        )
    if version is not None:
        held = Push.project_id == project.id, Push.version_id == version, Push.gone_at.is_(None)
        pushed = session.scalar(select(func.count(Push.ls_prediction_id)).where(*held)) or 0
        served = project.served_version == version
        total = pushed if served else max(pushed, found.images_ready - found.labels)
        yield Stage(
            name="Masks in Label Studio",
            done=pushed,
            of=total,
            waiting=0,
            words=f"{pushed:,}, served" if served else f"{pushed:,} of about {total:,}, not served yet",
        )


def _wish(request: TrainRequest) -> Wish:
    return Wish(cause=CAUSES.get(request.cause, request.cause), created_at=request.created_at)
