"""Labelled images of the pool, for exports: the newest usable label of each task."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.transfer import TransferError
from maskloop_backend.transfer.names import shown_name
from maskloop_learner.pool.masks import Mask, decode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import usable_labels
from maskloop_learner.pool.schema import Batch, Image, Label, Project, Snapshot, Task
from maskloop_learner.pool.snapshot import load_manifest

ROWS_AT_ONCE = 500
NOBODY = "unknown"
"""Whose labels those without an author are, with --all-annotators."""


@dataclass(frozen=True)
class Row:
    """One label with its image, as the pool keeps them; the bytes are read when they are written."""

    name: str
    image: str
    """Digest."""
    width: int
    height: int
    format: str
    masks: Mapping[str, str]
    """Label -> digest."""
    known: tuple[str, ...] | None
    """Labels that the annotator could draw; nothing is known of others. None: all."""
    split: str
    """train or validation."""
    task: int
    """Number in Label Studio."""
    annotation: int
    version: int
    author: str | None
    annotated_at: datetime
    lead_time: float | None
    batch: int | None
    """Number of the batch that it was made in; None: it was served outside any."""
    strategy: str | None
    """What that batch was chosen by."""
    data: Mapping[str, Any]
    """The task's fields."""


@dataclass(frozen=True)
class Facts:
    """What an export says of its project."""

    project: int
    title: str
    url: str
    labels: tuple[str, ...]
    prompts: Mapping[str, str]
    frozen: bool
    """Whether a snapshot fixed which images are for validation."""


class Labelled:
    """A project's labels. Reads nothing but the pool."""

    def __init__(self, pool: Pool, project: Project) -> None:
        self.pool, self.project = pool, project
        with pool.read() as session:
            newest = select(Snapshot).where(Snapshot.project_id == project.id).order_by(Snapshot.id.desc()).limit(1)
            snapshot = session.scalar(newest)
        self._validation = set(load_manifest(pool, snapshot)["validation"]) if snapshot else set()
        self.facts = Facts(
            project.ls_id,
            project.title,
            project.ls_url,
            Interface.from_json(project.control).labels,
            project.prompts,
            snapshot is not None,
        )

    def find(self) -> list[int]:
        """Ids of the labels to export, one a task, in the order of the tasks. Raises TransferError for none."""
        return self._newest(lambda label: label.task_id)

    def by_author(self) -> dict[str, list[int]]:
        """Author -> ids of the newest label of each task that is theirs. Raises TransferError for none."""
        found = self._newest(lambda label: (label.task_id, label.author))
        with self.pool.read() as session:
            authors: dict[str, list[int]] = {}
            for chunk in _chunks(found):
                statement = select(Label.id, Label.author).where(Label.id.in_(chunk))
                names = {row.id: row.author for row in session.execute(statement)}
                for label in chunk:
                    authors.setdefault(names[label] or NOBODY, []).append(label)
        return dict(sorted(authors.items()))

    def rows(self, labels: Sequence[int]) -> Iterator[Row]:
        """The rows of these labels, in their order, a few hundred in memory at a time."""
        for chunk in _chunks(labels):
            with self.pool.read() as session:
                statement = (
                    select(Label, Task, Image, Batch)
                    .join(Task, Task.id == Label.task_id)
                    .outerjoin(Batch, Batch.id == Label.batch_id)
                    .join(Image, Image.digest == Task.image_digest)
                    .where(Label.id.in_(chunk))
                )
                found = {
                    label.id: (label, task, image, batch) for label, task, image, batch in session.execute(statement)
                }
            yield from (self._row(*found[label]) for label in chunk if label in found)

    def image(self, row: Row) -> bytes:
        """The image as it is stored. Raises StoreError when it is missing or was altered."""
        return self.pool.store.get("images", row.image)

    def masks(self, row: Row) -> Iterator[tuple[str, Mask]]:
        """Every label that was looked for with its mask, empty where nothing was drawn."""
        import numpy as np

        for label in self.facts.labels:
            digest = row.masks.get(label)
            if digest is None and row.known is not None and label not in row.known:
                continue  # an empty mask would say that the label is not in the image
            if digest is None:
                yield label, np.zeros((row.height, row.width), dtype=np.bool_)
            else:
                yield label, decode_mask(self.pool.store.get("masks", digest), name=f"the mask {digest}")

    def _newest(self, group: Any) -> list[int]:
        newest: dict[Any, tuple[datetime, int, int]] = {}
        with self.pool.read() as session:
            for label in usable_labels(session, self.project.id):
                mark = (label.ls_updated_at, label.id, label.task_id)
                newest[group(label)] = max(mark, newest.get(group(label), mark))
        if not newest:
            named = self.facts.title or self.facts.project
            raise TransferError(
                f"project {named!r} has no label in the pool yet; submit some, and let `maskloop sync` run"
            )
        return [label for _, label, _ in sorted(newest.values(), key=lambda mark: (mark[2], mark[1]))]

    def _row(self, label: Label, task: Task, image: Image, batch: Batch | None) -> Row:
        return Row(
            name=shown_name(task.data.get("name"), task.url, task.ls_id),
            image=image.digest,
            width=image.width,
            height=image.height,
            format=image.format,
            masks=label.masks,
            known=None if label.known is None else tuple(label.known),
            split="validation" if image.digest in self._validation else "train",
            task=task.ls_id,
            annotation=label.ls_annotation_id,
            version=label.version,
            author=label.author,
            annotated_at=label.ls_updated_at,
            lead_time=label.lead_time,
            batch=None if batch is None else batch.number,
            strategy=None if batch is None else batch.strategy,
            data=task.data,
        )


def _chunks(labels: Sequence[int]) -> Iterator[Sequence[int]]:
    return (labels[start : start + ROWS_AT_ONCE] for start in range(0, len(labels), ROWS_AT_ONCE))
