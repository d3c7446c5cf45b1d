"""What differs between two models."""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import select

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Model, Round, Snapshot
from maskloop_learner.pool.snapshot import Item, load_manifest
from maskloop_learner.pool.store import BlobError
from maskloop_learner.train.dossier import decision_of

Change = tuple[Any, Any]
"""What the first says and what the second says; None where one says nothing."""


def compare_models(pool: Pool, first: int, second: int) -> dict[str, Any]:
    """{"about", "config", "metrics"}: name -> Change; "snapshot": names of the images added, removed and changed."""
    with pool.read() as session:
        a, b = session.get_one(Model, first), session.get_one(Model, second)
        ended = [session.scalar(select(Round).where(Round.model_id == model.id)) for model in (a, b)]
        kept = [session.get(Snapshot, model.snapshot_id) if model.snapshot_id else None for model in (a, b)]
    figures = [
        dict(flatten(model.metrics)) | dict(_slices(decision_of(model, row)))
        for model, row in zip((a, b), ended, strict=True)
    ]
    about = [
        {
            "backbone": model.backbone,
            "labels": ", ".join(model.labels),
            "weights": model.weights_digest,
            "parent": model.parent_id,
            "outcome": row.state if row else None,
        }
        for model, row in zip((a, b), ended, strict=True)
    ]
    return {
        "about": changes(*about),
        "config": changes(dict(flatten(a.config)), dict(flatten(b.config))),
        "metrics": changes(*figures),
        "snapshot": _learnt(pool, kept[0], kept[1]),
    }


def changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Change]:
    """Name -> both values, of those that differ, in the order of the names."""
    names = sorted(first.keys() | second.keys())
    return {name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)}


def flatten(tree: Mapping[str, Any], *, before: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of all leaves; a list is one. Words of a decision and curves always differ: left out."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            if before or name not in ("gate", "reliability"):
                yield from flatten(value, before=f"{before}{name}.")
        elif name not in ("decision", "reason", "loss"):
            yield f"{before}{name}", value


def _slices(decision: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for each in decision.get("slices") or []:
        yield f"slice.{each['kind']}.{each['name']}", each["challenger"]


def _learnt(pool: Pool, first: Snapshot | None, second: Snapshot | None) -> dict[str, Any]:
    nothing: dict[str, Any] = {"added": [], "removed": [], "changed": [], "unknown": None}
    if first is None or second is None:
        return nothing | ({} if first is second else {"unknown": "one of the models has no snapshot"})
    try:
        old, new = (_items(pool, snapshot) for snapshot in (first, second))
    except BlobError as error:
        return nothing | {"unknown": str(error)}
    other = [image for image in old.keys() & new.keys() if _content(old[image]) != _content(new[image])]
    return nothing | {
        "added": sorted(new[image]["name"] for image in new.keys() - old.keys()),
        "removed": sorted(old[image]["name"] for image in old.keys() - new.keys()),
        "changed": sorted(new[image]["name"] for image in other),
    }


def _items(pool: Pool, snapshot: Snapshot) -> dict[str, Item]:
    return {item["image"]: item for item in load_manifest(pool, snapshot)["items"]}


def _content(item: Item) -> tuple[Any, ...]:
    return item["masks"], item["split"], item.get("prompts"), item.get("known")
