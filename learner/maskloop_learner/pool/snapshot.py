"""Snapshots: a frozen, content-addressed list of the labels that a training learns from."""

from maskloop_learner.pool.draft import Rules, draft_manifest, read_labels
from maskloop_learner.pool.events import record
from maskloop_learner.pool.looking import look_at_images
from maskloop_learner.pool.manifest import (
    Item,
    Manifest,
    MergeRule,
    NearDuplicates,
    NoLabels,
    encode_manifest,
    load_manifest,
)
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Snapshot
from maskloop_learner.pool.voices import newest_labels

__all__ = ["Item", "Manifest", "NoLabels", "freeze_snapshot", "label_ids", "load_manifest", "newest_labels"]

COUNTED = 20
"""Warnings that an event carries at most."""


def freeze_snapshot(
    pool: Pool,
    project_id: int,
    *,
    share: float,
    merge: MergeRule = "latest",
    near_duplicates: NearDuplicates = "join",
) -> int:
    """Freeze the labels of today; return the snapshot's id. Raises NoLabels when there are none.

    share: of the images, 0..1, that should validate. merge: whose annotation of an image counts. The same labels after
    the same snapshot have the same digest, in whatever order they came.
    """
    read = read_labels(pool, project_id)
    looks = look_at_images(pool, read.labels, write=True)
    rules = Rules(share=share, merge=merge, near_duplicates=near_duplicates)
    manifest = draft_manifest(pool, read, looks, rules, keep=lambda data: pool.store.put("masks", data))
    blob = pool.store.put("manifests", encode_manifest(manifest))
    ids = label_ids(manifest)
    with pool.write() as session:
        snapshot = Snapshot(project_id=project_id, digest=blob, label_ids=ids)
        session.add(snapshot)
        session.flush()
        data = {
            "labels": len(ids),
            "images": len(manifest["items"]),
            "validation": len(manifest["validation"]),
            "digest": blob,
            "warnings": manifest["warnings"][:COUNTED],
        }
        record(session, "snapshot.frozen", project_id=project_id, subject=str(snapshot.id), data=data)
        return snapshot.id


def label_ids(manifest: Manifest) -> list[int]:
    """Ids of all labels that went into a snapshot, those that were merged with newer ones included."""
    merged = {voice["label"] for item in manifest["items"] for voice in item.get("annotations", ())}
    return sorted(merged.union(item["label_id"] for item in manifest["items"]))
