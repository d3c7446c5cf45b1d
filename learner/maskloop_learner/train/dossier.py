"""All that the pool and the store know of one model, as plain data."""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import (
    Champion,
    Event,
    Model,
    Prediction,
    PredictionVersion,
    Project,
    Round,
    Snapshot,
)
from maskloop_learner.pool.snapshot import load_manifest
from maskloop_learner.pool.store import BlobError
from maskloop_learner.train.manifests import ModelManifest, load_model_manifest

LONGEST = 1000
"""Parents that are followed at most."""


def read_dossier(pool: Pool, model_id: int) -> dict[str, Any]:
    """Everything about a model. What cannot be read, because a blob is lost, is None or says so."""
    with pool.read() as session:
        model = session.get_one(Model, model_id)
        champion = session.get(Champion, model.project_id)
        ended = session.scalar(select(Round).where(Round.model_id == model_id))
        snapshot = session.get(Snapshot, model.snapshot_id) if model.snapshot_id is not None else None
        found: dict[str, Any] = {
            "model": model.id,
            "project": session.get_one(Project, model.project_id).ls_id,
            "is": standing(model, champion),
            "labels": model.labels,
            "backbone": model.backbone,
            "weights": model.weights_digest,
            "manifest": model.manifest_digest,
            "fault": model.fault,
            "pruned_at": model.pruned_at.isoformat() if model.pruned_at else None,
            "created_at": model.created_at.isoformat(),
            "config": model.config,
            "metrics": model.metrics,
            "dice": {label: side["challenger"] for label, side in model.metrics.get("validation", {}).items()},
            "calibration": model.metrics.get("calibration", {}),
            "round": ended.id if ended else None,
            "state": ended.state if ended else None,
            "reason": (ended.reason if ended else None) or model.metrics.get("decision"),
            "decision": decision_of(model, ended),
            "parents": parents_of(session, model),
            "versions": _versions(session, model_id),
            "history": _history(session, model),
        }
    manifest = _manifest(pool, model)
    return found | {
        "base": manifest["base"] if manifest else None,
        "bytes": manifest["weights"]["bytes"] if manifest else None,
        "code": manifest["code"] if manifest else {},
        "made_by": manifest["made_by"] if manifest else None,
        "snapshot": _snapshot(pool, snapshot),
    }


def standing(model: Model, champion: Champion | None) -> list[str]:
    """What a model is at present, in words."""
    found = []
    if champion is not None and champion.model_id == model.id:
        found.append("champion, pinned" if champion.pinned else "champion")
    if champion is not None and champion.previous_model_id == model.id and champion.model_id != model.id:
        found.append("previous")
    if champion is not None and champion.challenger_id == model.id:
        found.append("shadow")
    if model.pruned_at is not None:
        found.append("pruned")
    return [*found, "broken"] if model.fault is not None else found


def decision_of(model: Model, ended: Round | None) -> dict[str, Any]:
    """The gate's verdict with its figures; empty where none was kept."""
    kept = model.metrics.get("gate")
    return dict(ended.decision) if ended is not None and ended.decision else dict(kept) if kept else {}


def parents_of(session: Session, model: Model) -> list[int]:
    """The champions before, the last one first."""
    found: list[int] = []
    parent = model.parent_id
    while parent is not None and parent not in found and len(found) < LONGEST:
        found.append(parent)
        parent = session.scalar(select(Model.parent_id).where(Model.id == parent))
    return found


def _versions(session: Session, model_id: int) -> list[dict[str, Any]]:
    statement = (
        select(PredictionVersion.id, PredictionVersion.created_at, func.count(Prediction.id))
        .outerjoin(Prediction, Prediction.version_id == PredictionVersion.id)
        .where(PredictionVersion.model_id == model_id)
        .group_by(PredictionVersion.id, PredictionVersion.created_at)
        .order_by(PredictionVersion.created_at)
    )
    return [
        {"id": version, "created_at": made.isoformat(), "predictions": count}
        for version, made, count in session.execute(statement)
    ]


def _history(session: Session, model: Model) -> list[dict[str, Any]]:
    """When it became the champion and when another did, by whom, with the fence."""
    statement = select(Event).where(Event.project_id == model.project_id, Event.kind == "champion.changed")
    found = []
    for event in session.scalars(statement.order_by(Event.id)):
        if model.id in (event.data["model"], event.data["previous"]):
            became = event.data["model"] == model.id
            found.append(
                {
                    "at": event.at.isoformat(),
                    "what": "made champion" if became else f"replaced by model {event.data['model']}",
                    "by": event.data["by"],
                    "fence": event.data["fence"],
                    "pinned": event.data["pinned"],
                    "reason": event.data.get("reason", ""),
                }
            )
    return found


def _manifest(pool: Pool, model: Model) -> ModelManifest | None:
    if model.manifest_digest is None:
        return None
    try:
        return load_model_manifest(pool.store, model.manifest_digest)
    except (BlobError, ValueError):
        # Shown as unknown here; `verify` says what is wrong with it.
        return None


def _snapshot(pool: Pool, snapshot: Snapshot | None) -> dict[str, Any] | None:
    if snapshot is None:
        return None
    found: dict[str, Any] = {"id": snapshot.id, "digest": snapshot.digest, "labels": len(snapshot.label_ids)}
    try:
        items = load_manifest(pool, snapshot)["items"]
    except BlobError as error:
        return found | {"train": None, "validation": None, "unknown": str(error)}
    counts = {side: sum(item["split"] == side for item in items) for side in ("train", "validation")}
    return found | counts | {"unknown": None}
