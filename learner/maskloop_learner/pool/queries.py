"""Questions that several parts ask the pool, each one statement or two."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, case, exists, func, select
from sqlalchemy.orm import Session, aliased, defer

from maskloop_learner.pool.schema import (
    Batch,
    BatchItem,
    Champion,
    Label,
    Prediction,
    Project,
    Rank,
    Score,
    Task,
)


class Question(NamedTuple):
    """An image and what the model is asked of it."""

    image: str
    """Digest of its bytes."""
    prompts: str = ""
    """`Task.prompt_digest`."""


def servable(project_id: int) -> tuple[ColumnElement[bool], ...]:
    """Conditions on a task: of this project, still there, and with an image that can be used."""
    return Task.project_id == project_id, Task.deleted_at.is_(None), Task.state == "ready"


def drawn() -> ColumnElement[bool]:
    """Condition on a task: somebody drew on it; one that was only skipped is not drawn."""
    return exists().where(Label.task_id == Task.id, Label.current, ~Label.cancelled)


def touched() -> ColumnElement[bool]:
    """Condition on a task: somebody labelled or skipped it."""
    return exists().where(Label.task_id == Task.id, Label.current, ~Label.deleted)


def open_places(session: Session, project_id: int) -> dict[int, int]:
    """Label Studio's id of each task in the project's open batch -> its position, from 1."""
    statement = _members(project_id).add_columns(BatchItem.position)
    return {ls_id: position for ls_id, position in session.execute(statement)}  # noqa: C416 - typed rows


def in_open_batch(project_id: int) -> ColumnElement[bool]:
    """Condition on an image: its task is in the project's open batch."""
    return Task.ls_id.in_(_members(project_id))


def _members(project_id: int) -> Select[int]:
    first = aliased(Task)
    return (
        select(first.ls_id)
        .join(BatchItem, BatchItem.task_id == first.id)
        .join(Batch, Batch.id == BatchItem.batch_id)
        .where(Batch.project_id == project_id, Batch.state == "open")
    )


def find_project(session: Session, ls_id: int) -> Project | None:
    """The project with this id in Label Studio."""
    return session.scalars(select(Project).where(Project.ls_id == ls_id).order_by(Project.id)).first()


def current_version(session: Session, project_id: int) -> str | None:
    """The prediction version that should be served; None before the first champion."""
    return session.scalar(select(Champion.version_id).where(Champion.project_id == project_id))


def answers(kind: type[Prediction | Rank], version_id: str) -> ColumnElement[bool]:
    """Condition that joins a prediction or rank of the version to a task: the same image, asked the same."""
    return and_(
        kind.version_id == version_id,
        kind.image_digest == Task.image_digest,
        kind.prompt_digest == Task.prompt_digest,
    )


def prediction_for(session: Session, version_id: str, image_digest: str, prompts: str = "") -> Prediction | None:
    """What a prediction version says of an image, if it has been asked. `prompts` is `Task.prompt_digest`."""
    return session.scalar(
        select(Prediction).where(
            Prediction.version_id == version_id,
            Prediction.image_digest == image_digest,
            Prediction.prompt_digest == prompts,
        )
    )


def predictions_for(session: Session, version_id: str, questions: Iterable[Question]) -> dict[Question, Prediction]:
    """Question -> prediction, for those that have one."""
    wanted = set(questions)
    statement = select(Prediction).where(
        Prediction.version_id == version_id, Prediction.image_digest.in_({question.image for question in wanted})
    )
    found = {Question(row.image_digest, row.prompt_digest): row for row in session.scalars(statement)}
    return {question: row for question, row in found.items() if question in wanted}


def scores_of(session: Session, prediction_ids: Iterable[int], *, figures: bool = True) -> dict[int, list[Score]]:
    """Prediction id -> its scores, by label. Without `figures` their aggregates, most of their bytes, are not read."""
    found: dict[int, list[Score]] = {}
    statement = select(Score).where(Score.prediction_id.in_(list(prediction_ids))).order_by(Score.label)
    for score in session.scalars(statement if figures else statement.options(defer(Score.aggregates, raiseload=True))):
        found.setdefault(score.prediction_id, []).append(score)
    return found


def unscored(session: Session, project_id: int, version_id: str, *, limit: int) -> Sequence[Question]:
    """The project's images that lack a prediction of the version: unlabelled tasks' images first, of these the open
    batch's, then the most uncertain of those that are ranked."""
    predicted = exists().where(answers(Prediction, version_id))
    labelled = exists().where(Label.task_id == Task.id, Label.current, ~Label.deleted)
    missing = *servable(project_id), Task.image_digest.is_not(None), ~predicted
    statement = (
        select(Task.image_digest, Task.prompt_digest)
        .outerjoin(Rank, answers(Rank, version_id))
        .where(*missing)
        .group_by(Task.image_digest, Task.prompt_digest)
        .order_by(
            func.min(case((labelled, 1), else_=0)),
            func.max(func.coalesce(Rank.uncertainty, -1)).desc(),
            func.min(Task.id),
        )
        .limit(limit)
    )
    # Questions of their own: joined, they would make this one slow for a whole pool.
    place = open_places(session, project_id)
    first = select(Task.ls_id, Task.image_digest, Task.prompt_digest).where(
        *missing, ~labelled, in_open_batch(project_id)
    )
    members = sorted(session.execute(first.order_by(Task.id)), key=lambda row: place[row[0]]) if place else []
    rows = [*((image, prompts) for _, image, prompts in members), *session.execute(statement)]
    return list(dict.fromkeys(Question(image, prompts) for image, prompts in rows if image))[:limit]


def unranked(session: Session, project_id: int, version_id: str, *, limit: int) -> Sequence[Question]:
    """The project's unlabelled images that the version has neither ranked nor predicted."""
    ranked = exists().where(answers(Rank, version_id))
    predicted = exists().where(answers(Prediction, version_id))
    statement = (
        select(Task.image_digest, Task.prompt_digest)
        .where(*servable(project_id), Task.image_digest.is_not(None), ~ranked, ~predicted, ~drawn())
        .group_by(Task.image_digest, Task.prompt_digest)
        .order_by(func.min(Task.id))
        .limit(limit)
    )
    return [Question(image, prompts) for image, prompts in session.execute(statement) if image]


def sample_images(session: Session, project_id: int, *, limit: int) -> list[str]:
    """Digests of at most `limit` of the project's images, unlabelled ones first, else in the order of their digests.

    Digests are as good as chance, and the same images come again as long as they are unlabelled.
    """
    labelled = exists().where(Label.task_id == Task.id, Label.current, ~Label.deleted)
    statement = (
        select(Task.image_digest)
        .where(*servable(project_id))
        .group_by(Task.image_digest)
        .order_by(func.min(case((labelled, 1), else_=0)), Task.image_digest)
        .limit(limit)
    )
    return [digest for digest in session.scalars(statement) if digest]


def rank_for(session: Session, version_id: str, image_digest: str, prompts: str = "") -> Rank | None:
    """Where a prediction version places an image, if it has."""
    return session.scalar(
        select(Rank).where(
            Rank.version_id == version_id,
            Rank.image_digest == image_digest,
            Rank.prompt_digest == prompts,
        )
    )


def is_usable() -> tuple[ColumnElement[bool], ...]:
    """Conditions on a label: the newest version of its annotation, not skipped, deleted or broken."""
    return and_(Label.current), ~Label.deleted, ~Label.cancelled, Label.error.is_(None)


def usable_labels(session: Session, project_id: int) -> Sequence[Label]:
    """The newest version of every annotation that can be learnt from: not skipped, deleted or broken."""
    statement = (
        select(Label)
        .join(Task, Task.id == Label.task_id)
        .where(
            *servable(project_id),
            *is_usable(),
        )
        .order_by(Label.id)
    )
    return session.scalars(statement).all()


@dataclass(frozen=True)
class Ranked:
    """An unlabelled task with its uncertainty (0..1) under one prediction version."""

    task_id: int
    ls_id: int
    url: str
    uncertainty: float
    aggregates: dict[str, Any]
    """Label -> measure -> aggregation -> score; empty for predictions of earlier releases."""


UNCERTAINTY: ColumnElement[float | None] = func.coalesce(Rank.uncertainty, Prediction.uncertainty)
"""Of an image in `standing`; null where it is not ranked."""


def standing(project_id: int, version_id: str | None) -> Select[Any]:
    """Columns of every image that may be labelled next, the most uncertain first, those without a score last; ties by
    Label Studio's id.

    Left out is what somebody labelled or skipped, and what cannot be read or predicted. `version_id` None: no image
    has a score.
    """
    return (
        select(Task.id, Task.ls_id, Task.url, UNCERTAINTY, Rank.aggregates)
        # No version has the id "": all joins come out empty.
        .outerjoin(Prediction, answers(Prediction, version_id or ""))
        .outerjoin(Rank, answers(Rank, version_id or ""))
        .where(*servable(project_id), ~touched(), Prediction.error.is_(None))
        .order_by(UNCERTAINTY.is_(None), UNCERTAINTY.desc(), Task.ls_id, Task.id)
    )


def ranking(session: Session, project_id: int, version_id: str) -> list[Ranked]:
    """Unlabelled tasks, the most uncertain first; ties by Label Studio's id. Failed images are left out.

    Images that are ranked but not predicted yet are in it. A task of several images stands where its most uncertain
    one does. Label Studio serves the open batch before it, see `pool.serving`.
    """
    found: dict[int, Ranked] = {}
    for task, ls_id, url, score, aggregates in session.execute(
        standing(project_id, version_id).where(UNCERTAINTY.is_not(None))
    ):
        found.setdefault(ls_id, Ranked(task, ls_id, url, score, aggregates or {}))
    return list(found.values())
