"""How far a project is: what it serves, what it has learnt from, what is missing, and what to do next."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from maskloop_backend.sync.work import waiting_tasks
from maskloop_learner.pool.batches import find_open
from maskloop_learner.pool.schema import Champion, Model, Project, Round, Task
from maskloop_learner.settings import Settings
from maskloop_learner.train.shadow import shadow_of
from maskloop_queue.triggers import Labels, active_round, count_labels

CHECKPOINT = "`maskloop models pull medclipseg/DATASET --project {project}` draws masks before the first label"


@dataclass(frozen=True)
class Need:
    """Something that is missing, and the way to it."""

    what: str
    fix: str
    blocks: bool = False
    """Whether nothing goes on by itself, however much is labelled."""


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """One project at one moment. Counts of images are counts of tasks."""

    project: int
    """Its number in Label Studio."""
    title: str
    url: str
    """Of the project in Label Studio."""
    images_ready: int
    images_waiting: int
    """To be fetched."""
    images_failed: int
    labels: int
    """Images with a label that can be learnt from."""
    labels_new: int
    """Of these, added or changed since the last training."""
    labels_missing: int | None
    """New labels until the next training starts by itself; None: labels alone start none."""
    trainings: int
    """Begun so far."""
    training: str | None
    """State of the training that is queued or running."""
    paused_at: datetime | None = None
    """Since when labels and the clock start no training; None: they do."""
    paused_by: str = ""
    model: int | None
    """The champion."""
    version: str | None
    """The prediction version that should be served."""
    served: str | None
    """The prediction version that Label Studio serves."""
    checkpoint: str | None
    """Where the champion was imported from; None when it was trained here, or there is none."""
    unpredicted: int
    """Unlabelled images without a prediction of that version."""
    shadow: int | None = None
    """A model that waits beside the champion for a person's word."""
    shadow_reason: str | None = None
    batch: int | None = None
    """Number of the open batch, whose tasks come first."""
    needs: tuple[Need, ...] = ()

    @property
    def order(self) -> str:
        """In which order tasks come where there is no model."""
        return f"in the order of batch {self.batch}" if self.batch is not None else "in random order"

    @property
    def next_step(self) -> str:
        """What to do, in one sentence."""
        if self.needs:
            return self.needs[0].fix
        if self.training is not None:
            return f"Go on labelling: a training is {self.training}."
        if self.paused_at is not None:
            return "Go on labelling: the schedule is paused. `maskloop train` trains now, `maskloop resume` goes on."
        if self.labels_missing is None:
            return "Label the tasks that come first; `maskloop train` learns from them."
        if self.labels_missing == 0:
            return "Go on labelling: the next training starts when no label has come for a moment."
        return f"Label the tasks that come first: the next training starts after {count(self.labels_missing, 'label')}."

    def as_json(self) -> dict[str, Any]:
        """The same as plain data, the next step included."""
        return {**asdict(self), "next_step": self.next_step}


def readiness(session: Session, project: Project, settings: Settings, labels: Labels | None = None) -> Readiness:
    """Look at one project in the pool; asks neither Label Studio nor Redis and changes nothing.

    `labels` as they were counted just now, if they were.
    """
    images = count_images(session, project.id)
    batch = find_open(session, project.id)
    champion = session.get(Champion, project.id)
    model = session.get_one(Model, champion.model_id) if champion else None
    running = active_round(session, project.id)
    labels = labels or count_labels(session, project.id, settings.merge_rule)
    fresh = len(labels.fresh)
    trainings = session.scalar(select(func.count(Round.id)).where(Round.project_id == project.id)) or 0
    found: dict[str, Any] = {
        "project": project.ls_id,
        "title": project.title,
        "url": f"{project.ls_url}/projects/{project.ls_id}/data",
        "images_ready": images.get("ready", 0),
        "images_waiting": images.get("new", 0),
        "images_failed": images.get("failed", 0),
        "labels": labels.images,
        "labels_new": fresh,
        "labels_missing": max(0, settings.trigger_labels - fresh) if settings.trigger_labels else None,
        "trainings": trainings,
        "training": running.state if running else None,
        "paused_at": project.paused_at,
        "paused_by": project.paused_by,
        "model": model.id if model else None,
        "version": champion.version_id if champion else None,
        "served": project.served_version,
        "checkpoint": model.config.get("imported", {}).get("source") if model else None,
        **look_for_shadow(session, project.id),
        "batch": batch.number if batch else None,
        "unpredicted": waiting_tasks(session, project.id, champion.version_id) if champion else 0,
    }
    return Readiness(**found, needs=tuple(list_needs(Readiness(**found), settings)))


def list_needs(found: Readiness, settings: Settings) -> Iterator[Need]:
    """What is missing, the most pressing first."""
    if not found.images_ready and found.images_waiting:
        yield Need(f"{count(found.images_waiting, 'image')} to be fetched", "Keep `maskloop up` running.")
    elif not found.images_ready and not found.images_failed:
        yield Need("There are no images", "Import tasks into the project in Label Studio.", blocks=True)
    if found.images_failed:
        yield Need(
            f"{count(found.images_failed, 'image')} cannot be used",
            "`maskloop doctor` says which and why.",
            blocks=not found.images_ready and not found.images_waiting,
        )
    if found.model is None:
        yield from list_steps_to_a_model(found, settings)
    elif found.unpredicted:
        yield Need(
            f"{count(found.unpredicted, 'unlabelled image')} without a mask of {found.version}",
            "Keep `maskloop up` running: they are being drawn.",
        )
    elif found.served != found.version:
        yield Need(
            f"Label Studio serves {found.served or 'no version'} still, not {found.version}",
            "Keep `maskloop up` running: it switches at the next look of sync.",
        )
    if found.shadow is not None:
        yield Need(
            f"Model {found.shadow} waits for a person: {found.shadow_reason}",
            f"`maskloop models shadow --project {found.project}` compares it with the champion; "
            f"`maskloop models promote {found.shadow} --project {found.project}` serves it.",
        )


def list_steps_to_a_model(found: Readiness, settings: Settings) -> Iterator[Need]:
    """What a project without a champion waits for."""
    what = f"There is no model yet: tasks come {found.order}, without masks"
    either = f", or {CHECKPOINT.format(project=found.project)}"
    if found.training is not None:
        yield Need(f"{what}. The first training is {found.training}", "Keep `maskloop up` running.")
    elif found.trainings and not found.labels_new:
        yield Need(
            f"{what}. The last training gave none",
            f"`maskloop doctor` says why; `maskloop train` tries again{either}.",
            blocks=True,
        )
    elif found.paused_at is not None:
        yield Need(
            f"{what}, and the schedule is paused ({count(found.labels, 'label')} so far)",
            f"`maskloop train` trains now, `maskloop resume` has labels start a training again{either}.",
            blocks=True,
        )
    elif found.labels_missing is not None:
        which = "next" if found.trainings else "first"
        so_far = f"{found.labels_new} of {settings.trigger_labels} labels"
        yield Need(
            f"{what}. {count(found.labels_missing, 'more label')} until the {which} training ({so_far})",
            f"Label tasks in Label Studio{either}.",
        )
    elif settings.trigger_cron:
        when = f"The first training comes at `{settings.trigger_cron}` (UTC), {count(found.labels, 'label')} so far"
        yield Need(f"{what}. {when}", f"Label tasks in Label Studio{either}.")
    else:
        yield Need(
            f"{what}, and labels alone start no training ({count(found.labels, 'label')} so far)",
            f"Label tasks, then run `maskloop train`; or set MASKLOOP_TRIGGER_LABELS{either}.",
            blocks=True,
        )


def look_for_shadow(session: Session, project_id: int) -> dict[str, Any]:
    """Id of the model in shadow and why it waits, as `Readiness` takes them."""
    waiting = shadow_of(session, project_id)
    if waiting is None:
        return {}
    reason = session.scalar(select(Round.reason).where(Round.model_id == waiting[0].id))
    return {"shadow": waiting[0].id, "shadow_reason": reason or "a person put it in shadow"}


def count_images(session: Session, project_id: int) -> dict[str, int]:
    """State of a task's image (new, ready, failed) -> how many."""
    statement = select(Task.state, func.count()).where(Task.project_id == project_id, Task.deleted_at.is_(None))
    rows = session.execute(statement.group_by(Task.state))
    return {state: number for state, number in rows}  # noqa: C416 - typed rows


def count(number: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
