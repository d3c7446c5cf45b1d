"""Snapshots: a frozen, content-addressed list of the labels that a training learns from."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, NotRequired, TypedDict

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import usable_labels
from maskloop_learner.pool.schema import Label, Project, Snapshot, Task


class Item(TypedDict):
    """One image to learn from or to validate on."""

    label_id: int
    task_id: int
    ls_task: int
    name: str
    image: str
    masks: dict[str, str]
    known: NotRequired[list[str]]
    """Labels that could be drawn: one of them without a mask is empty, any other is unknown. Absent: all."""
    prompts: NotRequired[dict[str, dict[str, Any]]]
    """Label -> {"text", "source", ..}: what the model is asked of this image, where that is its own."""
    split: str


class Manifest(TypedDict):
    """A snapshot's content; `validation` lists image digests that no training may ever learn from."""

    project: int
    labels: list[str]
    """The project's labels that were looked for on an image to learn from: of another, a model would draw noise."""
    prompts: dict[str, str]
    """The project's templates, see `maskloop_learner.prompts.rules`."""
    validation: list[str]
    items: list[Item]


class NoLabels(ValueError):
    """There is nothing to learn from yet."""


def extend_validation(digests: Iterable[str], frozen: Sequence[str], *, share: float) -> list[str]:
    """The validation set: all that was in it stays, new images join until it is `share` of all images.

    Which new images join depends on their digests alone, so the choice cannot follow the model's scores.
    At least one image of two is kept for validation, and at least one for training.
    """
    known = sorted(set(digests))
    chosen = [digest for digest in frozen if digest in known]
    target = min(max(1, round(share * len(known))), len(known) - 1)
    new = [digest for digest in known if digest not in frozen]
    new.sort(key=lambda digest: hashlib.sha256(f"validation:{digest}".encode()).hexdigest())
    return sorted([*chosen, *new[: max(0, target - len(chosen))]])


def newest_labels(session: Session, project_id: int) -> dict[str, tuple[Label, Task]]:
    """Image digest -> the label to learn from, with its task: the newest of an image with several.

    One that knows of no label that the project has today is none: its annotator never saw the image, or all labels
    are others now.
    """
    labels = sorted(usable_labels(session, project_id), key=lambda row: (row.ls_updated_at, row.id))
    names = list(session.get_one(Project, project_id).control.get("labels", []))
    labelled = select(Label.task_id).where(Label.current, ~Label.deleted)
    statement = select(Task).where(Task.project_id == project_id, Task.id.in_(labelled))
    tasks = {task.id: task for task in session.scalars(statement)}
    newest: dict[str, tuple[Label, Task]] = {}
    for label in labels:
        task = tasks[label.task_id]
        if task.image_digest is not None and any(_knows(label, name) for name in names):
            newest[task.image_digest] = (label, task)
    return newest


def freeze_snapshot(pool: Pool, project_id: int, *, share: float) -> int:
    """Freeze the labels of today; return the snapshot's id. Raises NoLabels when there are none.

    The newest annotation of an image counts where several annotators drew one.
    """
    with pool.read() as session:
        project = session.get_one(Project, project_id)
        latest = newest_labels(session, project_id)
        if not latest:
            raise NoLabels(f"project {project.title or project.ls_id!r} has no label to learn from; submit some first")
        frozen = _frozen_validation(pool, session, project_id)
        validation = sorted({*frozen, *extend_validation(latest, frozen, share=share)})
        learnt = [label for digest, (label, _) in latest.items() if digest not in validation]
        looked = learnt or [label for label, _ in latest.values()]
        manifest = Manifest(
            project=project_id,
            labels=[name for name in project.control["labels"] if any(_knows(label, name) for label in looked)],
            prompts=dict(project.prompts),
            validation=validation,
            items=[],
        )
    for digest, (label, task) in sorted(latest.items()):
        split = "validation" if digest in manifest["validation"] else "train"
        name = task.url.rsplit("/", 1)[-1] or f"task {task.ls_id}"
        item = Item(
            label_id=label.id,
            task_id=task.id,
            ls_task=task.ls_id,
            name=name,
            image=digest,
            masks=dict(label.masks),
            split=split,
        )
        if label.known is not None and not set(manifest["labels"]) <= set(label.known):
            item["known"] = list(label.known)
        if task.prompts:
            item["prompts"] = dict(task.prompts)
        manifest["items"].append(item)
    blob = pool.store.put("manifests", json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())
    label_ids = sorted(item["label_id"] for item in manifest["items"])
    with pool.write() as session:
        snapshot = Snapshot(project_id=project_id, digest=blob, label_ids=label_ids)
        session.add(snapshot)
        session.flush()
        record(
            session,
            "snapshot.frozen",
            project_id=project_id,
            subject=str(snapshot.id),
            data={"labels": len(label_ids), "validation": len(manifest["validation"]), "digest": blob},
        )
        return snapshot.id


def _knows(label: Label, name: str) -> bool:
    return label.known is None or name in label.known


def load_manifest(pool: Pool, snapshot: Snapshot) -> Manifest:
    """A snapshot's content. Raises StoreError when the blob is missing or altered."""
    manifest: Manifest = json.loads(pool.store.get("manifests", snapshot.digest))
    return manifest


def _frozen_validation(pool: Pool, session: Session, project_id: int) -> list[str]:
    statement = select(Snapshot).where(Snapshot.project_id == project_id).order_by(Snapshot.id.desc()).limit(1)
    newest = session.scalar(statement)
    return load_manifest(pool, newest)["validation"] if newest is not None else []
