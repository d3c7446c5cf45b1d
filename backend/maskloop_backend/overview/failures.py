"""What went wrong in a project or around it, with its message and what to do; the most pressing first."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from maskloop_backend.overview.happenings import CAUSES
from maskloop_backend.overview.queues import Queues
from maskloop_backend.readiness import count
from maskloop_learner.disk import measure_room
from maskloop_learner.pool.queries import answers, current_version, servable
from maskloop_learner.pool.schema import Model, Prediction, Project, Round, Task, TrainRequest, utcnow
from maskloop_learner.settings import Settings
from maskloop_learner.train.verification import mending

UP = "Start `maskloop up`; its log says why a process ended."
SHOWN = 5
"""Images that are named one by one."""
LATE = 60.0
"""Seconds beyond four periods of sync after which it counts as away."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One thing that went wrong."""

    what: str
    message: str
    """As it was said where it went wrong; "" where `what` says it all."""
    fix: str
    """What to do."""
    at: datetime | None = None


def list_failures(
    session: Session, project: Project, settings: Settings, queues: Queues, *, images_failed: int
) -> list[Failure]:
    """All that stands now. What was mended is not in it: the events tell of that.

    `images_failed` as they were counted just now.
    """
    return [
        *_of_queues(queues),
        *_of_sync(project, settings),
        *_of_disk(settings),
        *_of_trainings(session, project),
        *_of_models(session, project),
        *_of_jobs(queues),
        *_of_images(session, project, images_failed),
        *_of_predictions(session, project),
    ]


def _of_queues(queues: Queues) -> Iterator[Failure]:
    if queues.down is not None:
        yield Failure(
            what="Redis does not answer: nothing is drawn, and no training begins",
            message=queues.down,
            fix=f"What is in the pool is safe, and all goes on by itself when Redis is back. {UP}",
        )
    for line in queues.lines:
        if not line.workers:
            jobs = line.queued + line.started
            waits = f" ({count(jobs, 'job')} there)" if jobs else ""
            yield Failure(what=f"No worker takes jobs of the queue {line.name}{waits}", message="", fix=UP)


def _of_sync(project: Project, settings: Settings) -> Iterator[Failure]:
    late = timedelta(seconds=4 * settings.sync_interval + LATE)
    if project.sync_error:
        yield Failure(
            what="sync cannot go through this project",
            message=project.sync_error,
            fix="It tries again by itself; `maskloop doctor` looks at what it needs.",
            at=project.looked_at,
        )
    elif project.looked_at is None:
        yield Failure(what="sync has not looked at this project yet", message="", fix=UP)
    elif utcnow() - project.looked_at > late:
        yield Failure(
            what="sync has not looked at this project for a while: no label comes in, and no training is started",
            message="",
            fix=UP,
            at=project.looked_at,
        )


def _of_disk(settings: Settings) -> Iterator[Failure]:
    if (room := measure_room(settings)).is_low:
        fix = "Make room on that disk; `maskloop clean` removes what is not needed. All goes on by itself then."
        yield Failure(what="The disk is nearly full", message=str(room), fix=fix)


def _of_trainings(session: Session, project: Project) -> Iterator[Failure]:
    last = session.scalar(select(Round).where(Round.project_id == project.id).order_by(Round.id.desc()).limit(1))
    if last is not None and last.state == "failed":
        yield Failure(
            what=f"Training {last.id} failed {_times(last.failures)} and was given up",
            message=last.reason or "",
            fix="The log of the training worker says where. New labels, or Train now, start another.",
            at=last.ended_at,
        )
    elif last is not None and last.failures and last.ended_at is None:
        again = f"It is tried again at {last.retry_at:%H:%M} UTC." if last.retry_at else "It is being tried again."
        yield Failure(
            what=f"Training {last.id} failed {_times(last.failures)}",
            message=last.reason or "",
            fix=f"{again} The log of the training worker says where it failed.",
        )
    mine = TrainRequest.project_id == project.id
    wish = session.scalar(select(TrainRequest).where(mine).order_by(TrainRequest.id.desc()).limit(1))
    if wish is None or not wish.refused or wish.refused.startswith("cancelled"):
        return
    if last is None or last.created_at < wish.created_at:
        yield Failure(
            what=f"The training that was asked for by {CAUSES.get(wish.cause, wish.cause)} was not started",
            message=wish.refused,
            fix="Label some images, then ask again.",
            at=wish.created_at,
        )


def _of_models(session: Session, project: Project) -> Iterator[Failure]:
    broken = Model.project_id == project.id, Model.fault.is_not(None)
    for model in session.scalars(select(Model).where(*broken).order_by(Model.id.desc()).limit(SHOWN)):
        yield Failure(what=f"Model {model.id} cannot be loaded", message=model.fault or "", fix=mending(model))


def _of_jobs(queues: Queues) -> Iterator[Failure]:
    """Of all projects: who looks at one is not helped by not knowing that the workers fail elsewhere."""
    for line in queues.lines:
        for job in line.failures:
            fix = "It is tried again within minutes if it is still needed; the log of the worker says where it failed."
            yield Failure(
                what=f"A job of the queue {line.name} failed ({job.what.words})", message=job.message, fix=fix
            )
        if (more := line.failed - len(line.failures)) > 0:
            yield Failure(what=f"{more} more jobs of the queue {line.name} failed", message="", fix="See the log.")


def _of_images(session: Session, project: Project, count_failed: int) -> Iterator[Failure]:
    if not count_failed:
        return
    mine = Task.project_id == project.id, Task.deleted_at.is_(None), Task.state == "failed"
    for task in session.scalars(select(Task).where(*mine).order_by(Task.ls_id).limit(SHOWN)):
        again = "It is tried again by itself." if task.retry_at else "Replace or delete the task in Label Studio."
        yield Failure(what=f"The image of task {task.ls_id} cannot be used", message=task.error or "", fix=again)
    if count_failed > SHOWN:
        yield Failure(
            what=f"{count(count_failed - SHOWN, 'more image')} cannot be used",
            message="",
            fix="The page of images shows them all, under “failed”.",
        )


def _of_predictions(session: Session, project: Project) -> Iterator[Failure]:
    version = current_version(session, project.id)
    if version is None:
        return
    wrong = (
        select(func.min(Task.ls_id), Prediction.error)
        .join(Prediction, answers(Prediction, version))
        .where(*servable(project.id), Prediction.error.is_not(None))
        .group_by(Prediction.id, Prediction.error)
        .order_by(Prediction.id.desc())
        .limit(SHOWN + 1)
    )
    found = session.execute(wrong).all()
    for task, error in found[:SHOWN]:
        yield Failure(
            what=f"The image of task {task} could not be predicted",
            message=error or "",
            fix="It counts as failed under this model; the next model tries it again.",
        )
    if len(found) > SHOWN:
        yield Failure(
            what="More images could not be predicted",
            message="",
            fix="The page of images shows them all, under “failed”.",
        )


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
