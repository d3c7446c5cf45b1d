"""Which images a model has learnt from, itself or through the model that it started from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Model, Snapshot
from maskloop_learner.pool.snapshot import Item, Manifest, load_manifest

WARM_FROM = "warm_from"
"""In `Model.config`: the id of the model whose weights a warm start began with."""


@dataclass(frozen=True)
class Learnt:
    """Digests of images, and the groups that these belong to."""

    images: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    def has(self, item: Mapping[str, Any]) -> bool:
        """Whether the item's image, or another one of its group, was learnt from."""
        return item["image"] in self.images or group_of(item) in self.groups


def group_of(item: Mapping[str, Any]) -> str:
    """What keeps the item's image together with others; without a group the image is one by itself."""
    return str(item.get("group") or item["image"])


def find_learnt(pool: Pool, model_id: int, today: Manifest) -> Learnt:
    """All that a model has learnt from, by the snapshots of its trainings.

    Releases moved images from one side to the other, and groups may have been named later: `today` tells the groups
    of the images as they are now. An imported model's images are not known.
    """
    items = [item for item in list_items(pool, model_id) if item["split"] == "train"]
    groups = {item["image"]: group_of(item) for item in today["items"]}
    images = frozenset(item["image"] for item in items)
    return Learnt(images, frozenset({*map(group_of, items), *(groups[each] for each in images if each in groups)}))


def find_seen(pool: Pool, model_id: int) -> Learnt:
    """All that a model has learnt from or was validated on."""
    items = list_items(pool, model_id)
    return Learnt(frozenset(item["image"] for item in items), frozenset(map(group_of, items)))


def list_items(pool: Pool, model_id: int) -> list[Item]:
    """The items of a model's snapshot, and of those that it was warm-started from."""
    manifests = []
    with pool.read() as session:
        seen: set[int] = set()
        following: int | None = model_id
        while following is not None and following not in seen:
            seen.add(following)
            model = session.get_one(Model, following)
            if model.snapshot_id is not None:
                manifests.append(load_manifest(pool, session.get_one(Snapshot, model.snapshot_id)))
            following = model.config.get(WARM_FROM)
    return [item for manifest in manifests for item in manifest["items"]]
