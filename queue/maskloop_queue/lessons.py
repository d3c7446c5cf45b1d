"""What a round's training is given: the snapshot's images to learn from, and the model that it goes on from."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from maskloop_learner.pool.images import open_image
from maskloop_learner.pool.masks import decode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, Snapshot
from maskloop_learner.pool.snapshot import Item, Manifest, load_manifest
from maskloop_learner.pool.store import BlobError
from maskloop_learner.settings import Settings
from maskloop_queue.trials import prompts_of

if TYPE_CHECKING:
    from maskloop_learner.train.examples import Example
    from maskloop_learner.train.recipe import WarmStart

log = logging.getLogger(__name__)


class Lessons(Sequence["Example"]):
    """A snapshot's images to learn from, read out of the store when they are asked for: they need not fit into memory.

    Each is named by its task, so that an error leads to it.
    """

    def __init__(self, pool: Pool, manifest: Manifest) -> None:
        self._pool, self._manifest = pool, manifest
        self._items = taught(manifest)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, place: int) -> "Example": ...
    @overload
    def __getitem__(self, place: slice) -> "list[Example]": ...
    def __getitem__(self, place: int | slice) -> "Example | list[Example]":
        from maskloop_learner.train.examples import Example

        if isinstance(place, slice):
            return [self[k] for k in range(*place.indices(len(self)))]
        item, store = self._items[place], self._pool.store
        return Example(
            image=open_image(store.get("images", item["image"])),
            masks={label: decode_mask(store.get("masks", digest)) for label, digest in item["masks"].items()},
            name=f"task {item['ls_task']} ({item['name']})",
            group=str(group) if (group := item.get("group")) else None,
            **prompts_of(item, self._manifest, "train"),
        )


def find_start(pool: Pool, project_id: int, manifest: Manifest, settings: Settings) -> "WarmStart | None":
    """The champion to go on from, if the settings ask for that and it can be; else None: the base weights.

    New are the images whose masks, or which themselves, are not in the champion's snapshot.
    """
    from maskloop_learner.model.checkpoint import CheckpointError, read_meta
    from maskloop_learner.train.recipe import WarmStart

    if settings.train_start == "base":
        return None
    with pool.read() as session:
        champion = session.get(Champion, project_id)
        model = session.get_one(Model, champion.model_id) if champion else None
        snapshot = session.get(Snapshot, model.snapshot_id) if model and model.snapshot_id else None
        old = load_manifest(pool, snapshot) if snapshot else None
        digest, number = (model.weights_digest, model.id) if model else (None, None)
    if digest is None:
        log.info("there is no champion to go on from: this training starts from the base weights")
        return None
    try:
        initial = pool.store.get("weights", digest)
        backbone = read_meta(initial)["backbone"]
    except (BlobError, CheckpointError) as error:
        log.warning("the champion cannot be gone on from (%s): this training starts from the base weights", error)
        return None
    if backbone != settings.backbone:
        log.info(
            "the champion's backbone is %s: this training starts from the weights of %s", backbone, settings.backbone
        )
        return None
    learnt = {_content(item) for item in taught(old)} if old else set()
    fresh = frozenset(k for k, item in enumerate(taught(manifest)) if _content(item) not in learnt)
    return WarmStart(initial=initial, fresh=fresh, replay=settings.replay_share, model_id=number)


def taught(manifest: Manifest) -> list[Item]:
    """The items to learn from, in the manifest's order."""
    return [item for item in manifest["items"] if item["split"] == "train"]


def _content(item: Item) -> tuple[Any, ...]:
    return item["image"], tuple(sorted(item["masks"].items()))
