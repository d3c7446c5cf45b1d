"""Annotations become labels: every version of every annotation is kept, edits and deletions included."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_backend.labelstudio.client import Annotation, AnnotationHead
from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.masks.regions import RegionError, from_regions
from maskloop_learner.pool.batches import batch_at
from maskloop_learner.pool.events import record
from maskloop_learner.pool.masks import encode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.prompting import as_json, ask, set_prompts
from maskloop_learner.pool.pushes import mark_stale
from maskloop_learner.pool.schema import Image, Label, Project, Task, utcnow
from maskloop_learner.prompts.typed import split_typed

LONGEST_PROMPT = 1000
"""Characters of a typed prompt that are kept: the model reads some dozens of words."""


def current_labels(session: Session, task_ids: Iterable[int]) -> dict[int, dict[int, Label]]:
    """Task id -> annotation id in Label Studio -> its newest version, of annotations that exist."""
    found: dict[int, dict[int, Label]] = {}
    statement = select(Label).where(Label.task_id.in_(list(task_ids)), Label.current, ~Label.deleted)
    for label in session.scalars(statement):
        found.setdefault(label.task_id, {})[label.ls_annotation_id] = label
    return found


def is_stale(label: Label | None, head: AnnotationHead) -> bool:
    """Whether Label Studio's annotation is another version than the pool's; a broken one is read again."""
    return (
        label is None
        or label.ls_updated_at != head.updated_at
        or label.cancelled != head.cancelled
        or label.error is not None
    )


def take_annotation(
    pool: Pool, project: Project, task: Task, image: Image | None, body: Annotation, *, authors: Mapping[int, str]
) -> bool:
    """Keep an annotation's version unless the pool has it; return whether it is new.

    One that cannot be learnt from (no image, a region of another size, broken RLE) is kept with the reason.
    """
    served = Interface.from_json(project.control)
    interface = served.on(task.part)
    masks, error = _read_masks(pool, interface, image, task, body)
    typed = find_typed(body.result, interface)
    row = Label(
        task_id=task.id,
        ls_annotation_id=body.id,
        cancelled=body.cancelled,
        author=authors.get(body.author, str(body.author)) if body.author is not None else None,
        lead_time=body.lead_time,
        parent_prediction=body.parent_prediction,
        masks=masks,
        known=list(interface.labels),
        error=error,
        ls_updated_at=body.updated_at,
    )
    with pool.write() as session:
        before = _newest(session, task.id, row.ls_annotation_id)
        if before is None or before.deleted:
            # By the time at which it was made: the batch may have ended before it is read here.
            row.batch_id = batch_at(session, task, body.created_at)
        else:
            row.batch_id = before.batch_id
        if before is not None:
            # Label Studio blanks the parent when the prediction is deleted: what the annotator saw stays known.
            if not before.deleted:  # else another annotation that got the same number
                row.parent_prediction = row.parent_prediction or before.parent_prediction
            if before.current and _same(before, row):
                return False
            before.current, row.version = False, before.version + 1
        if _came_later(session, served, task, row):
            row.known = sorted(row.masks)
        # Not of one that is read again: somebody may have typed other words since.
        row.prompts = _note_typed(session, project, task, typed)
        session.add(row)
        session.flush()
        record(
            session,
            "label.taken",
            project_id=project.id,
            subject=str(row.id),
            data={
                "task": task.ls_id,
                "annotation": row.ls_annotation_id,
                "version": row.version,
                "cancelled": row.cancelled,
                "error": error,
            },
        )
    return True


def drop_annotations(pool: Pool, project_id: int, task_id: int, gone: Sequence[int]) -> None:
    """Note that annotations of a task were deleted in Label Studio."""
    with pool.write() as session:
        for ls_id in gone:
            before = _newest(session, task_id, ls_id)
            if before is None or not before.current:
                continue
            before.current = False
            session.add(
                Label(
                    task_id=task_id,
                    ls_annotation_id=ls_id,
                    version=before.version + 1,
                    current=False,
                    deleted=True,
                    parent_prediction=before.parent_prediction,
                    batch_id=before.batch_id,
                    ls_updated_at=utcnow(),
                )
            )
            record(session, "label.deleted", project_id=project_id, subject=str(before.id), data={"annotation": ls_id})


def _newest(session: Session, task_id: int, ls_annotation_id: int) -> Label | None:
    statement = select(Label).where(Label.task_id == task_id, Label.ls_annotation_id == ls_annotation_id)
    return session.scalar(statement.order_by(Label.version.desc()).limit(1))


def _came_later(session: Session, served: Interface, task: Task, row: Label) -> bool:
    """Whether the image joined its task after the annotation was taken of another: its annotator never saw it."""
    statement = (
        select(Label.id)
        .join(Task, Task.id == Label.task_id)
        .where(
            Task.project_id == task.project_id,
            Task.ls_id == task.ls_id,
            Task.id != task.id,
            Task.part.in_(served.data_keys),
            Label.ls_annotation_id == row.ls_annotation_id,
            Label.ls_updated_at == row.ls_updated_at,
            Label.created_at < task.created_at,
            ~Label.deleted,
        )
    )
    return session.scalar(statement.limit(1)) is not None


def _same(before: Label, after: Label) -> bool:
    return (before.ls_updated_at, before.cancelled, before.masks, before.error) == (
        after.ls_updated_at,
        after.cancelled,
        after.masks,
        after.error,
    )


def find_typed(result: Iterable[Mapping[str, Any]], interface: Interface) -> dict[str, str]:
    """Label -> prompt out of the texts of a result that stand in prompt tags of one image; see `split_typed`.

    A text field keeps all that was added to it: the last text that is of a label is what the annotator wants now.
    """
    found: dict[str, str] = {}
    tags = {tag.from_name: tag for tag in interface.prompt_tags}
    for region in result:
        name = region.get("from_name") if isinstance(region, Mapping) else None
        tag = tags.get(name) if isinstance(name, str) else None
        value = region.get("value") if tag else None
        texts = value.get("text") if isinstance(value, Mapping) else None
        for text in texts if isinstance(texts, list) else [texts]:
            if isinstance(text, str):
                found |= split_typed(text[:LONGEST_PROMPT], interface.labels)
    return found


def _note_typed(session: Session, project: Project, task: Task, typed: Mapping[str, str]) -> dict[str, Any]:
    """Keep what was typed for the image, as what it is asked from now on; return all that it is asked."""
    row = session.get_one(Task, task.id)
    if typed and dict(row.typed_prompts or {}) != {**(row.typed_prompts or {}), **typed}:
        row.typed_prompts = {**(row.typed_prompts or {}), **typed}
        if set_prompts(session, project, row):
            mark_stale(session, row, "typed")
    return as_json(ask(project, row))


def _read_masks(
    pool: Pool, interface: Interface, image: Image | None, task: Task, body: Annotation
) -> tuple[dict[str, str], str | None]:
    if body.cancelled:
        return {}, None
    if image is None:
        return {}, f"the image of task {task.ls_id} cannot be used: {task.error or 'it was not fetched yet'}"
    try:
        found = from_regions(body.result, controls=interface.controls, width=image.width, height=image.height)
    except RegionError as error:
        return {}, f"annotation {body.id} of task {task.ls_id}: {error}"
    return {label: pool.store.put("masks", encode_mask(mask)) for label, mask in found.items() if mask.any()}, None
