"""Where every model comes from, word for word: a manifest in the store, written with the model's row and never again.

A manifest names its parent's manifest by digest, so an altered history is noticed however far back it was altered.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NotRequired, TypedDict

from sqlalchemy.orm import Session

from maskloop_learner.code_version import code_version
from maskloop_learner.model.header import check_layout, read_meta
from maskloop_learner.pool.events import record
from maskloop_learner.pool.schema import Model, Project, Snapshot, utcnow
from maskloop_learner.pool.store import BlobError, Store
from maskloop_learner.settings import Settings

SCHEMA = "maskloop-model/1"
LEARNING = (
    "augment",
    "backbone",
    "calibration",
    "cheap_ranking",
    "device",
    "early_stopping",
    "gate_",
    "max_hole_area",
    "merge_rule",
    "min_speck_area",
    "near_duplicates",
    "precision",
    "prompt_dropout",
    "replay_share",
    "samples",
    "threshold",
    "train_",
    "validation_",
)
"""How the names of the settings begin that a model depends on. No address, path or password is among them."""


class WeightsEntry(TypedDict):
    """A weights file."""

    digest: str
    bytes: int


class Parent(TypedDict):
    """The model that was the champion when this one was made."""

    model: int
    manifest: str | None
    """Digest of its manifest; None where it has none."""


class SnapshotEntry(TypedDict):
    """The labels that a model learnt from."""

    id: int
    digest: str


class ModelManifest(TypedDict):
    """All that is known of how a model was made."""

    schema: str
    project: dict[str, Any]
    """{"id", "title"} in Label Studio."""
    weights: WeightsEntry
    backbone: str
    base: str | None
    """Digest of the frozen towers, or `random:SEED`; None where the weights file holds the whole model."""
    labels: list[str]
    parent: Parent | None
    snapshot: SnapshotEntry | None
    config: dict[str, Any]
    seed: int | None
    code: dict[str, str | None]
    metrics: dict[str, Any]
    """With the gate's decision and figures."""
    created_at: str
    made_by: str
    reconstructed: NotRequired[bool]
    """Written later, from the row of a model that an earlier release made without one."""
    origin: NotRequired["ModelManifest"]
    """Of a model that came from another installation: its manifest there."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Weights that are in the store, and what their file says of them."""

    digest: str
    size: int
    """Bytes."""
    backbone: str
    base: str | None


def keep_weights(store: Store, data: bytes) -> Kept:
    """Put a weights file into the store. Raises CheckpointError when it is none that is whole."""
    check_layout(data)
    meta = read_meta(data)
    base = meta.get("base")
    return Kept(
        digest=store.put("weights", data),
        size=len(data),
        backbone=str(meta["backbone"]),
        base=None if base is None else str(base),
    )


def add_model(
    session: Session,
    store: Store,
    *,
    project_id: int,
    weights: Kept,
    labels: list[str],
    made_by: str,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    settings: Settings | None = None,
    snapshot_id: int | None = None,
    parent_id: int | None = None,
    origin: ModelManifest | None = None,
) -> Model:
    """The one way in which a model comes into the pool: its manifest, then its row, within the caller's transaction.

    `settings`: those that it was trained with. Raises BlobError when the weights have left the store meanwhile, and
    ValueError for a figure that is not finite.
    """
    if not store.exists("weights", weights.digest):
        raise BlobError(f"the weights {weights.digest} have left the store {store.url}; do it again")
    whole = dict(config)
    if settings is not None:
        whole["settings"] = learning_settings(settings)
    model = Model(
        project_id=project_id,
        weights_digest=weights.digest,
        backbone=weights.backbone,
        labels=list(labels),
        snapshot_id=snapshot_id,
        parent_id=parent_id,
        config=whole,
        metrics=dict(metrics),
        created_at=utcnow(),
    )
    manifest = describe(session, model, weights, made_by=made_by, code=code_version())
    if origin is not None:
        manifest["origin"] = origin
    model.manifest_digest = store.put("manifests", encode(manifest))
    session.add(model)
    session.flush()
    data = {"weights": weights.digest, "manifest": model.manifest_digest, "by": made_by}
    record(session, "model.added", project_id=project_id, subject=str(model.id), data=data)
    return model


def describe(
    session: Session, model: Model, weights: Kept, *, made_by: str, code: dict[str, str | None]
) -> ModelManifest:
    """The manifest of a model's row."""
    project = session.get_one(Project, model.project_id)
    parent = session.get_one(Model, model.parent_id) if model.parent_id is not None else None
    snapshot = session.get_one(Snapshot, model.snapshot_id) if model.snapshot_id is not None else None
    return ModelManifest(
        schema=SCHEMA,
        project={"id": project.ls_id, "title": project.title},
        weights=WeightsEntry(digest=weights.digest, bytes=weights.size),
        backbone=weights.backbone,
        base=weights.base,
        labels=[str(label) for label in model.labels],
        parent=Parent(model=parent.id, manifest=parent.manifest_digest) if parent is not None else None,
        snapshot=SnapshotEntry(id=snapshot.id, digest=snapshot.digest) if snapshot is not None else None,
        config=dict(model.config),
        seed=model.config.get("seed"),
        code=code,
        metrics=dict(model.metrics),
        created_at=stamp(model.created_at),
        made_by=made_by,
    )


def reconstruct(session: Session, store: Store, model: Model, weights: Kept) -> str:
    """Write the manifest of a model that has none, as far as its row tells; return its digest."""
    unknown: dict[str, str | None] = dict.fromkeys(code_version())
    manifest = describe(session, model, weights, made_by="unknown: an earlier release", code=unknown)
    manifest["reconstructed"] = True
    model.manifest_digest = store.put("manifests", encode(manifest))
    data = {"manifest": model.manifest_digest}
    record(session, "model.described", project_id=model.project_id, subject=str(model.id), data=data)
    return model.manifest_digest


def load_model_manifest(store: Store, digest: str) -> ModelManifest:
    """A manifest. Raises BlobError when the blob is missing or altered, ValueError when it is of another kind."""
    return decode(store.get("manifests", digest))


def encode(manifest: ModelManifest) -> bytes:
    """Canonical JSON: equal manifests are equal bytes. Raises ValueError for a number that is not finite."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def decode(data: bytes) -> ModelManifest:
    """What `encode` gave. Raises ValueError naming the schema when it is another."""
    found = json.loads(data)
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"a model's manifest must be of schema {SCHEMA!r}, got {schema!r}")
    manifest: ModelManifest = found
    return manifest


def learning_settings(settings: Settings) -> dict[str, Any]:
    """The settings that a model depends on, as JSON has them."""
    found = settings.model_dump(mode="json")
    return {name: value for name, value in sorted(found.items()) if name.startswith(LEARNING)}


def stamp(moment: datetime) -> str:
    """A moment as it stands in a manifest: UTC, ISO 8601."""
    return moment.isoformat()
