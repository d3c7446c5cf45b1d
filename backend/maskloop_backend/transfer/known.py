"""What a project has already: its tasks by the digest of their image, and which of them carry labels."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from maskloop_backend.labelstudio.client import LabelStudio, TaskRow
from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.masks.regions import RegionError
from maskloop_backend.transfer.drawing import undraw
from maskloop_learner.pool.masks import Mask, encode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Task

KEY = "maskloop_import"
"""Field of a task's data: what identifies the image that it was made from."""
ORIGIN = "origin"
"""Field of a task's data: where the image came from; its `masks` are the digests of the masks imported with it."""


@dataclass(frozen=True)
class KnownTask:
    """A task that shows an image."""

    id: int
    labelled: bool
    """Somebody submitted an annotation."""
    masks: Mapping[str, str] | None
    """Label -> digest of what an import brought; None: no import brought labels."""


@dataclass
class Known:
    """A project's tasks by import key. They are found by their image's digest in the pool as well."""

    client: LabelStudio
    project: int
    interface: Interface
    data_key: str
    tasks: dict[str, KnownTask] = field(default_factory=dict)

    @classmethod
    def read(
        cls, client: LabelStudio, project: int, interface: Interface, *, data_key: str, pool: Pool, pool_id: int
    ) -> "Known":
        """All tasks of a project as they are now. Raises LabelStudioError."""
        known = cls(client, project, interface, data_key)
        with pool.read() as session:
            statement = select(Task.ls_id, Task.image_digest).where(Task.project_id == pool_id)
            digests = {ls_id: digest for ls_id, digest in session.execute(statement) if digest}
        for row in client.changed_tasks(project, None).tasks:
            known.add(row, digests.get(row.id))
        return known

    def add(self, row: TaskRow, digest: str | None = None) -> None:
        """Take a task in; of several with one image the first that is labelled counts, else the oldest."""
        own = row.data.get(KEY)
        keys = [own if isinstance(own, str) else address_key(str(row.data.get(self.data_key))), digest]
        origin = row.data.get(ORIGIN)
        masks = origin.get("masks") if isinstance(origin, Mapping) else None
        labelled = any(not head.cancelled for head in row.annotations)
        for key in keys:
            before = self.tasks.get(key) if key else None
            if key and (before is None or (labelled and not before.labelled)):
                self.tasks[key] = KnownTask(row.id, labelled, masks if isinstance(masks, Mapping) else None)

    def look_for(self, keys: Iterable[str]) -> set[str]:
        """Those of these keys that no task has yet; asks Label Studio again."""
        for row in self.client.changed_tasks(self.project, None).tasks:
            self.add(row)
        return set(keys) - self.tasks.keys()

    def has_labels(self, task: int, result: Sequence[Mapping[str, Any]], *, width: int, height: int) -> bool:
        """Whether a submitted annotation of the task has exactly the masks of these regions."""
        wanted = digest_masks(undraw(result, self.interface, width=width, height=height))
        for annotation in self.client.annotations(self.project, [task]).get(task, []):
            if annotation.cancelled:
                continue
            try:
                drawn = undraw(annotation.result, self.interface, width=width, height=height)
            except RegionError:
                continue  # whatever it is, it is not what is imported
            if digest_masks(drawn) == wanted:
                return True
        return False


def address_key(address: str) -> str:
    """The import key of an image that lies elsewhere."""
    return f"address:{address}"


def digest_masks(masks: Mapping[str, Mask]) -> dict[str, str]:
    """Label -> digest of its mask as the pool keeps it, of the labels that have a pixel."""
    return {label: hashlib.sha256(encode_mask(mask)).hexdigest() for label, mask in masks.items() if mask.any()}
