"""What is shown of an image in the list: its name, its figures, and the addresses of its pictures."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_backend.web.dashboard.listing import Found
from maskloop_backend.web.dashboard.wishes import Wish
from maskloop_learner.pool.groups import name_of
from maskloop_learner.pool.queries import answers, drawn, scores_of
from maskloop_learner.pool.schema import Batch, BatchItem, Image, Prediction, Project, Score, Task

SMALL, LARGE = 256, 768
"""Pixels of the longer side of a picture in the list and in the side view."""


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Addresses of a prediction's pictures; None where there is none to show."""

    outline: str | None = None
    heat: str | None = None


@dataclass(frozen=True, kw_only=True)
class Card:
    """One row of the list."""

    task: int
    """In Label Studio."""
    id: int
    """In the pool."""
    part: str
    name: str
    url: str
    """Of the task in Label Studio."""
    group: str
    state: str
    """new, ready or failed; labelled where somebody drew on it."""
    error: str | None
    rank: int | None
    """Place in the whole ranking, from 1; None in a filtered list."""
    value: float | None
    """The score that the list is ordered by."""
    uncertainty: float | None
    labels: dict[str, float]
    """Label -> share of the image that is predicted to belong to it, 0..1."""
    image: str | None
    """Address of its picture."""
    width: int
    height: int
    layers: Layers
    batch: int | None
    """Number of the open batch that it is in."""
    reason: str | None
    """Why it is in that batch."""

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        # By hand: `asdict` copies every text and number, of hundreds of rows.
        return {**vars(self), "layers": dict(vars(self.layers))}


def make_cards(
    session: Session, project: Project, version: str | None, rows: Sequence[Found], wish: Wish
) -> list[Card]:
    """The cards of the rows of a page, in their order."""
    ids = [row.task_id for row in rows]
    tasks = {task.id: task for task in session.scalars(select(Task).where(Task.id.in_(ids)))}
    digests = {task.image_digest for task in tasks.values() if task.image_digest is not None}
    images = {image.digest: image for image in session.scalars(select(Image).where(Image.digest.in_(digests)))}
    asked = select(Task.id, Prediction).join(Prediction, answers(Prediction, version or "")).where(Task.id.in_(ids))
    predictions = {task: prediction for task, prediction in session.execute(asked)}  # noqa: C416 - typed rows
    scores = scores_of(session, [prediction.id for prediction in predictions.values()], figures=False)
    labelled = set(session.scalars(select(Task.id).where(Task.id.in_(ids), drawn())))
    reasons = find_reasons(session, project.id, [task.ls_id for task in tasks.values()])
    start = (wish.after.shown if wish.after else 0) + 1
    cards: list[Card] = []
    for number, row in enumerate(rows, start):
        task, prediction = tasks[row.task_id], predictions.get(row.task_id)
        image = images.get(task.image_digest or "")
        found = scores.get(prediction.id, []) if prediction is not None else []
        item = reasons.get(task.ls_id)
        cards.append(
            Card(
                task=task.ls_id,
                id=task.id,
                part=task.part,
                name=name_of(task.data or {}, task.url or "") or f"task {task.ls_id}",
                url=task_url(project, task.ls_id),
                group=task.group_key,
                state="labelled" if task.id in labelled else task.state,
                error=task.error or (prediction.error if prediction is not None else None),
                rank=number if wish.is_plain else None,
                value=row.value,
                uncertainty=prediction.uncertainty if prediction is not None else row.value,
                labels={score.label: share(score.area, image) for score in found},
                image=picture_url(image.digest, SMALL) if image is not None else None,
                width=image.width if image is not None else 4,
                height=image.height if image is not None else 3,
                layers=make_layers(prediction, found, SMALL),
                batch=item[0] if item is not None else None,
                reason=item[1] if item is not None else None,
            )
        )
    return cards


def find_reasons(session: Session, project_id: int, ls_ids: Sequence[int]) -> dict[int, tuple[int, str]]:
    """Task in Label Studio -> number of the open batch and why it is in it."""
    statement = (
        select(Task.ls_id, Batch.number, BatchItem.reason)
        .join(BatchItem, BatchItem.task_id == Task.id)
        .join(Batch, Batch.id == BatchItem.batch_id)
        .where(Task.project_id == project_id, Task.ls_id.in_(ls_ids), Batch.state == "open")
    )
    return {ls_id: (number, reason) for ls_id, number, reason in session.execute(statement)}


def task_url(project: Project, ls_id: int) -> str:
    """Where Label Studio opens a task."""
    return f"{project.ls_url}/projects/{project.ls_id}/data?task={ls_id}"


def picture_url(digest: str, side: int) -> str:
    """Where a small picture of an image is."""
    return f"/pictures/{digest}-{side}.webp"


def make_layers(prediction: Prediction | None, scores: Sequence[Score], side: int) -> Layers:
    """Where the pictures that lie on the image are. They carry a mark of what they show, so they may be kept."""
    if prediction is None or not scores:
        return Layers()
    mapped = [score.map_digest for score in scores if score.map_digest is not None]
    return Layers(
        outline=f"/layers/outline/{prediction.id}-{mark([score.mask_digest for score in scores])}-{side}.png",
        heat=f"/layers/heat/{prediction.id}-{mark(mapped)}-{side}.png" if mapped else None,
    )


def mark(digests: Sequence[str]) -> str:
    """A short digest of what a picture is made of."""
    return hashlib.sha256(" ".join(sorted(digests)).encode()).hexdigest()[:16]


def share(area: int, image: Image | None) -> float:
    """Part of the image that so many pixels are, 0..1."""
    return area / (image.width * image.height) if image is not None else 0.0
