"""What a snapshot holds: the labels that a training learns from, word for word, named by the digest of its bytes."""

import json
from typing import Any, Literal, NotRequired, TypedDict

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Snapshot

MergeRule = Literal["latest", "majority", "staple"]
NearDuplicates = Literal["join", "report"]


class Voice(TypedDict):
    """An annotation that an item was made of."""

    label: int
    """Id of the label in the pool: one version of one annotation."""
    annotation: int
    """Its number in Label Studio."""
    version: int
    author: str | None
    batch: NotRequired[int]
    """Number of the batch that it was made in. Absent: it was served outside any."""
    strategy: NotRequired[str]
    """What that batch was chosen by."""


class Item(TypedDict):
    """One image to learn from or to validate on."""

    label_id: int
    """The newest label, see `annotations`."""
    task_id: int
    ls_task: int
    name: str
    image: str
    masks: dict[str, str]
    """Label -> digest; one that was looked for and is not in here is empty, an example of the label's absence."""
    known: NotRequired[list[str]]
    """Labels that could be drawn: one of them without a mask is empty, any other is unknown. Absent: all."""
    prompts: NotRequired[dict[str, dict[str, Any]]]
    """Label -> {"text", "source", ..}: what the model is asked of this image, where that is its own."""
    split: str
    group: NotRequired[str]
    """What it belongs to: the group key, or the image's digest where it has none."""
    source: NotRequired[str]
    """Where it comes from, a site or a scanner, where that is known."""
    blind: NotRequired[bool]
    """True where the annotator was shown no prediction."""
    annotations: NotRequired[list[Voice]]
    """All that was merged into the masks, the oldest first."""


class Groups(TypedDict):
    """Group keys by side, of every snapshot so far, and the rule that made them."""

    rule: dict[str, Any]
    validation: list[str]
    learnt: list[str]


class Duplicate(TypedDict):
    """Two images of different groups that are one picture, or nearly."""

    images: list[str]
    tasks: list[int]
    """Their numbers in Label Studio."""
    sides: list[str]


class Manifest(TypedDict):
    """A snapshot's content; `validation` lists image digests that no training may ever learn from."""

    project: int
    labels: list[str]
    """The project's labels that were looked for on an image to learn from: of another, a model would draw noise."""
    prompts: dict[str, str]
    """The project's templates, see `maskloop_learner.prompts.rules`."""
    validation: list[str]
    items: list[Item]
    learnt: NotRequired[list[str]]
    """Image digests that any snapshot so far learnt from."""
    groups: NotRequired[Groups]
    merge: NotRequired[MergeRule]
    """How several annotators' masks of one image became one."""
    duplicates: NotRequired[list[Duplicate]]
    """As few pairs as show which groups belong together."""
    warnings: NotRequired[list[str]]


class NoLabels(ValueError):
    """There is nothing to learn from yet."""


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes that are kept: equal manifests give equal bytes."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


def load_manifest(pool: Pool, snapshot: Snapshot) -> Manifest:
    """A snapshot's content. Raises StoreError when the blob is missing or altered."""
    manifest: Manifest = json.loads(pool.store.get("manifests", snapshot.digest))
    return manifest


def newest_manifest(pool: Pool, session: Session, project_id: int) -> Manifest | None:
    """The content of the project's last snapshot; None before the first."""
    statement = select(Snapshot).where(Snapshot.project_id == project_id).order_by(Snapshot.id.desc()).limit(1)
    newest = session.scalar(statement)
    return load_manifest(pool, newest) if newest is not None else None
