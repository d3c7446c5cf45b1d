"""Whether a model is what it was: its blobs by digest, its manifest against its row, and the history behind it.

Knows no torch: whoever serves, supervises or syncs can ask.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_learner.model.header import CheckpointError, check_layout, read_meta
from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, Snapshot
from maskloop_learner.pool.store import BlobError, Store
from maskloop_learner.train.manifests import Kept, ModelManifest, decode, reconstruct, stamp

Part = Literal["weights", "manifest", "history", "snapshot", "base"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that was found out about a model."""

    model: int
    part: Part
    what: str
    fix: str
    broken: bool = True
    """False: worth knowing, nothing is wrong."""

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


def verify_model(pool: Pool, model: Model) -> list[Finding]:
    """Look at a model's weights, manifest, parent and snapshot; whether its weights are whole is noted in the pool.

    The frozen towers that it stands on are not looked at, see `bases`.
    """
    findings: list[Finding] = []
    with pool.read() as session:
        serves = session.scalar(select(Champion.project_id).where(Champion.model_id == model.id)) is not None
        snapshot = session.get(Snapshot, model.snapshot_id) if model.snapshot_id is not None else None
        parent = session.get(Model, model.parent_id) if model.parent_id is not None else None
    if model.pruned_at is not None and serves:
        said = "the champion was pruned: its weights are gone"
        findings.append(Finding(model=model.id, part="weights", what=said, fix=mending(model)))
    elif model.pruned_at is None:
        fault = blob_fault(pool.store, "weights", model.weights_digest)
        note_fault(pool, model.id, fault)
        if wrong := fault or layout_fault(pool.store, model):
            findings.append(Finding(model=model.id, part="weights", what=wrong, fix=mending(model)))
    if model.manifest_digest is None:
        said = "an earlier release made it, without a manifest"
        fix = f"maskloop models verify {model.id} --repair"
        findings.append(Finding(model=model.id, part="manifest", what=said, fix=fix, broken=False))
    else:
        findings += _check_manifest(pool.store, model, model.manifest_digest, parent)
    if snapshot is not None and (lost := blob_fault(pool.store, "manifests", snapshot.digest)):
        fix = "Restore it from a backup; the model serves without it."
        findings.append(Finding(model=model.id, part="snapshot", what=lost, fix=fix))
    return findings


def blob_fault(store: Store, kind: Literal["weights", "manifests"], digest: str) -> str | None:
    """How a blob is not what it was, or None. Raises StoreDown or OSError when the store cannot be reached."""
    try:
        store.get(kind, digest)
    except BlobError as error:
        return str(error)
    return None


def layout_fault(store: Store, model: Model) -> str | None:
    """Why a weights file that is what it was cannot be used by this release, or None."""
    data = store.get("weights", model.weights_digest)
    try:
        check_layout(data)
        found = read_meta(data)["backbone"]
    except (CheckpointError, KeyError) as error:
        return f"weights blob {model.weights_digest}: {error}"
    return (
        None if found == model.backbone else f"its weights are of backbone {found!r}, its row says {model.backbone!r}"
    )


def note_fault(pool: Pool, model_id: int, fault: str | None) -> bool:
    """Keep in the pool why a model cannot serve, or that it can; return whether that is news."""
    with pool.read() as session:
        if session.get_one(Model, model_id).fault == fault:
            return False
    with pool.write() as session:
        model = session.get_one(Model, model_id)
        before, model.fault = model.fault, fault
        kind = "model.mended" if fault is None else "model.broken"
        data = {"model": model_id, "reason": fault, "fix": mending(model)} if fault else {"model": model_id}
        record(session, kind, project_id=model.project_id, subject=str(model_id), data=data)
    return before != fault


def repair_manifest(pool: Pool, model_id: int) -> str | None:
    """Write the manifest of a model that has none; None where it has one. Raises BlobError without its weights."""
    with pool.read() as session:
        model = session.get_one(Model, model_id)
    if model.manifest_digest is not None:
        return None
    data = pool.store.get("weights", model.weights_digest)
    base = read_meta(data).get("base")
    kept = Kept(
        digest=model.weights_digest,
        size=len(data),
        backbone=model.backbone,
        base=None if base is None else str(base),
    )
    with pool.write() as session:
        row = session.get_one(Model, model_id)
        return reconstruct(session, pool.store, row, kept) if row.manifest_digest is None else None


def mending(model: Model) -> str:
    """What a person does about broken weights."""
    return (
        "Restore the store from a backup, or import its export again (maskloop models import FILE); "
        f"until then let another model serve (maskloop rollback). Then: maskloop models verify {model.id}"
    )


def models_of(session: Session, project_id: int) -> list[Model]:
    """A project's models, the oldest first."""
    return list(session.scalars(select(Model).where(Model.project_id == project_id).order_by(Model.id)))


def _check_manifest(store: Store, model: Model, digest: str, parent: Model | None) -> list[Finding]:
    lost = "Restore it from a backup; the model serves without it."

    def finding(part: Part, what: str, fix: str) -> Finding:
        return Finding(model=model.id, part=part, what=what, fix=fix)

    try:
        manifest = decode(store.get("manifests", digest))
    except (BlobError, ValueError) as error:
        return [finding("manifest", f"its manifest cannot be read: {error}", lost)]
    other = list(_differences(manifest, model))
    found = [
        finding("manifest", f"its row says another {name} than its manifest: the database was altered", lost)
        for name in other
    ]
    named = manifest["parent"]
    if (named["model"] if named else None) != model.parent_id:
        found.append(finding("history", "its row names another parent than its manifest", lost))
    elif named and named["manifest"] is not None and parent and parent.manifest_digest != named["manifest"]:
        said = f"model {named['model']}, from which it comes, has another manifest than when it was made"
        found.append(finding("history", said, lost))
    return found


def _differences(manifest: ModelManifest, model: Model) -> list[str]:
    """What the row says otherwise; figures that came later are none."""
    snapshot = manifest["snapshot"]
    known = {key: model.metrics.get(key) for key in manifest["metrics"]}
    pairs: dict[str, tuple[Any, Any]] = {
        "weights file": (manifest["weights"]["digest"], model.weights_digest),
        "backbone": (manifest["backbone"], model.backbone),
        "list of labels": (manifest["labels"], model.labels),
        "snapshot": (snapshot["id"] if snapshot else None, model.snapshot_id),
        "configuration": (manifest["config"], model.config),
        "figure": (manifest["metrics"], known),
        "date": (manifest["created_at"], stamp(model.created_at)),
    }
    return [name for name, (told, row) in pairs.items() if json.loads(json.dumps(told)) != json.loads(json.dumps(row))]
