"""What a project lead should know of a snapshot before trusting the figures that come of it."""

from collections.abc import Iterator

from maskloop_learner.pool.belonging import Belonging
from maskloop_learner.pool.manifest import Duplicate, Item, Manifest

NAMED = 5
"""Pairs that a warning names at most."""
SUSPICIOUS = 10
"""Images that a group must have before its size is remarkable."""


def find_warnings(manifest: Manifest, belonging: Belonging, *, learnt_before: frozenset[str]) -> list[str]:
    """Sentences, each of which says what to do where something can be done.

    learnt_before: images that were learnt from and have not validated before this snapshot.
    """
    validation = [item for item in manifest["items"] if item["split"] == "validation"]
    return [
        *_too_few_groups(manifest, belonging, validation),
        *_labels_without_validation(manifest, validation),
        *_moved(validation, learnt_before),
        *_alike(manifest["duplicates"]),
        *_one_large_group(manifest, belonging),
    ]


def _too_few_groups(manifest: Manifest, belonging: Belonging, validation: list[Item]) -> Iterator[str]:
    [name, *others] = belonging.groups
    if not others:
        what = f"all {len(manifest['items'])} labelled images are of one group ({name!r})"
        if len(manifest["items"]) == 1:
            what = "only one image is labelled"
        yield f"{what}, so none can validate and no model can pass the gate: label images of another group"
    elif len(validation) == len(manifest["items"]):
        yield "every labelled image validates, so there is nothing to learn from: label images of another group"


def _labels_without_validation(manifest: Manifest, validation: list[Item]) -> Iterator[str]:
    if not validation:
        return
    for label in manifest["labels"]:
        if all(label not in item.get("known", [label]) for item in validation):
            yield f"label {label!r} was looked for on no image that validates: the gate cannot judge it"
        elif all(label not in item["masks"] for item in validation):
            yield f"label {label!r} is on no image that validates: the gate sees only that it is not drawn elsewhere"


def _moved(validation: list[Item], learnt_before: frozenset[str]) -> Iterator[str]:
    moved = [item for item in validation if item["image"] in learnt_before]
    if moved:
        yield (
            f"{len(moved)} images validate from now on that were learnt from before ({_names(moved)}): they belong to "
            "a group that validates, or no other group was left. The champion may look better on them than it is"
        )


def _alike(duplicates: list[Duplicate]) -> Iterator[str]:
    for apart in (False, True):
        pairs = [pair for pair in duplicates if (len(set(pair["sides"])) > 1) is apart]
        if not pairs:
            continue
        named = ", ".join(
            f"tasks {a} and {b} ({'/'.join(dict.fromkeys(p['sides']))})" for p in pairs[:NAMED] for a, b in [p["tasks"]]
        )
        more = f" and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
        if apart:
            yield (
                f"{len(pairs)} pairs of pictures on both sides of the split are one or nearly: {named}{more}; "
                "what is learnt from one is tested on the other (MASKLOOP_NEAR_DUPLICATES=join keeps them together)"
            )
        else:
            what = f"{len(pairs)} pairs of pictures of different groups are one or nearly"
            yield f"{what}, and kept on one side: {named}{more}"


def _one_large_group(manifest: Manifest, belonging: Belonging) -> Iterator[str]:
    name, images = max(belonging.groups.items(), key=lambda pair: (len(pair[1]), pair[0]))
    alone = {key for image in images for key in belonging.keys[image]}
    count = len(manifest["items"])
    joined = len(alone) > 1 or (not alone and len(images) > 1)
    if joined and len(images) >= SUSPICIOUS and 2 * len(images) > count:
        yield (
            f"pictures that look alike, or are in several groups, make one group ({name!r}) of {len(images)} of "
            f"{count} images; if they are different ones, set MASKLOOP_NEAR_DUPLICATES=report"
        )


def _names(items: list[Item]) -> str:
    more = f" and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return ", ".join(item["name"] for item in items[:NAMED]) + more
