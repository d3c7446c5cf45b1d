"""The side view of one image: what the model says of it, why it was chosen, and how that changed over versions."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_backend.web.dashboard.cards import (
    LARGE,
    SMALL,
    Layers,
    make_layers,
    mark,
    picture_url,
    share,
    task_url,
)
from maskloop_backend.web.errors import WebError
from maskloop_learner.pool.groups import name_of
from maskloop_learner.pool.queries import rank_for, scores_of
from maskloop_learner.pool.schema import (
    Batch,
    BatchItem,
    Image,
    Label,
    Model,
    Prediction,
    PredictionVersion,
    Project,
    Rank,
    Score,
    Task,
)

VERSIONS = 12
"""Versions that are shown at most, the newest first."""


@dataclass(frozen=True, kw_only=True)
class LabelFigures:
    """What a prediction says of one label."""

    label: str
    prompt: str
    share: float
    probability: float
    predictive_entropy: float
    mutual_information: float


@dataclass(frozen=True, kw_only=True)
class Past:
    """What one version said of the image."""

    version: str
    model: int
    created_at: datetime
    uncertainty: float | None
    error: str | None
    layers: Layers
    current: bool


@dataclass(frozen=True, kw_only=True)
class Details:
    """All of it."""

    task: Task
    name: str
    url: str
    image: Image | None
    picture: str | None
    small: str | None
    prediction: Prediction | None
    layers: Layers
    labels: list[LabelFigures]
    rank: Rank | None
    history: list[Past]
    batches: list[tuple[Batch, BatchItem]]
    drawn: Label | None
    drawn_layer: str | None


def find_details(session: Session, project: Project, version: str | None, task_id: int) -> Details:
    """Of a task by its id in the pool. Raises WebError 404 for one that is not in the project, or is gone."""
    task = session.get(Task, task_id)
    if task is None or task.project_id != project.id or task.deleted_at is not None:
        raise WebError(404, "there is no such image", task_id, fix="Go back to the list of images.")
    image = session.get(Image, task.image_digest) if task.image_digest else None
    history = find_history(session, project, version, task)
    current = next((prediction for prediction, past in history if past.current), None)
    scores = scores_of(session, [current.id]).get(current.id, []) if current is not None else []
    drawn = session.scalar(
        select(Label)
        .where(Label.task_id == task.id, Label.current, ~Label.deleted)
        .order_by(Label.ls_updated_at.desc(), Label.id.desc())
    )
    return Details(
        task=task,
        name=name_of(task.data or {}, task.url or "") or f"task {task.ls_id}",
        url=task_url(project, task.ls_id),
        image=image,
        picture=picture_url(image.digest, LARGE) if image is not None else None,
        small=picture_url(image.digest, SMALL) if image is not None else None,
        prediction=current,
        layers=make_layers(current, scores, LARGE),
        labels=[read_figures(score, image) for score in scores],
        rank=rank_for(session, version, image.digest, task.prompt_digest) if version and image else None,
        history=[past for _, past in history],
        batches=find_batches(session, task),
        drawn=drawn,
        drawn_layer=draw_layer(drawn),
    )


def find_history(session: Session, project: Project, version: str | None, task: Task) -> list[tuple[Prediction, Past]]:
    """What this project's versions said of the image, the newest first."""
    statement = (
        select(Prediction, PredictionVersion, Model.id)
        .join(PredictionVersion, PredictionVersion.id == Prediction.version_id)
        .join(Model, Model.id == PredictionVersion.model_id)
        .where(PredictionVersion.project_id == project.id, Prediction.image_digest == task.image_digest)
        .where((Prediction.version_id != version) | (Prediction.prompt_digest == task.prompt_digest))
        .order_by(PredictionVersion.created_at.desc(), Prediction.id.desc())
        .limit(VERSIONS)
    )
    rows = session.execute(statement).all()
    scores = scores_of(session, [prediction.id for prediction, _, _ in rows])
    found: list[tuple[Prediction, Past]] = []
    for prediction, made_by, model in rows:
        past = Past(
            version=prediction.version_id,
            model=model,
            created_at=made_by.created_at,
            uncertainty=prediction.uncertainty,
            error=prediction.error,
            layers=make_layers(prediction, scores.get(prediction.id, []), SMALL),
            current=prediction.version_id == version,
        )
        found.append((prediction, past))
    return found


def find_batches(session: Session, task: Task) -> list[tuple[Batch, BatchItem]]:
    """The batches that the task is or was in, the newest first."""
    statement = (
        select(Batch, BatchItem)
        .join(BatchItem, BatchItem.batch_id == Batch.id)
        .join(Task, Task.id == BatchItem.task_id)
        .where(Task.project_id == task.project_id, Task.ls_id == task.ls_id)
        .order_by(Batch.id.desc())
    )
    return [(batch, item) for batch, item in session.execute(statement)]


def read_figures(score: Score, image: Image | None) -> LabelFigures:
    """A row of the table of labels."""
    names: dict[str, Any] = {
        name: getattr(score, name)
        for name in ("label", "prompt", "probability", "predictive_entropy", "mutual_information")
    }
    return LabelFigures(share=share(score.area, image), **names)


def draw_layer(label: Label | None) -> str | None:
    """Where the picture of what a person drew is."""
    if label is None or not label.masks:
        return None
    return f"/layers/label/{label.id}-{mark(list(label.masks.values()))}-{LARGE}.png"
