"""Several annotators' masks of one image become one mask, by a rule that has a name."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec

import numpy as np

from maskloop_learner.pool.manifest import MergeRule
from maskloop_learner.pool.masks import Mask, decode_mask, encode_mask
from maskloop_learner.pool.store import Store
from maskloop_learner.pool.voices import Labelled, knows

MOST_ITERATIONS = 100
FEWEST_FOR_STAPLE = 3


class MergeError(RuntimeError):
    """Masks that cannot be merged; the message says why and what to do."""


def staple_is_there() -> bool:
    """Whether the library that the rule `staple` needs is installed; it is not imported."""
    return find_spec("SimpleITK") is not None


def merge_masks(masks: Sequence[Mask], rule: MergeRule) -> Mask:
    """One mask out of those of several annotators, the oldest first: bool H x W each, all of one shape.

    latest: the last. majority: pixels that more than half have drawn; where just half have, the last one's word
    counts. staple: each annotator is trusted by how well the others agree (Warfield, Zou and Wells 2004, "STAPLE"); of
    two who disagree it cannot tell which is right, and takes all or nothing, so two are merged as by majority.
    Raises MergeError for no mask, for different shapes, and for `staple` without SimpleITK.
    """
    if not masks or any(mask.shape != masks[0].shape for mask in masks):
        shapes = [mask.shape for mask in masks]
        raise MergeError(f"masks to merge must be of one shape, and at least one, got {shapes}; submit them again")
    if rule == "latest" or all(np.array_equal(mask, masks[0]) for mask in masks):
        return masks[-1].copy()
    if rule == "staple" and len(masks) >= FEWEST_FOR_STAPLE:
        return _staple(masks)
    votes = np.sum(masks, axis=0, dtype=np.int64)
    merged: Mask = (2 * votes > len(masks)) | ((2 * votes == len(masks)) & masks[-1])
    return merged


def merge_labels(
    rows: Sequence[Labelled], rule: MergeRule, *, store: Store, keep: Callable[[bytes], str]
) -> dict[str, str]:
    """Label -> digest of its merged mask, which `keep` took; one that comes out empty is left out.

    Who could not draw a label has no say about it; who could and did not, says that it is not there.
    """
    if len(rows) == 1:
        return dict(rows[0].label.masks)
    decoded: dict[str, Mask] = {}

    def read(masks: Mapping[str, str], name: str) -> Mask | None:
        digest = masks.get(name)
        if digest is None:
            return None
        if digest not in decoded:
            decoded[digest] = decode_mask(store.get("masks", digest), name=f"the mask {digest}")
        return decoded[digest]

    merged: dict[str, str] = {}
    for name in sorted({name for row in rows for name in row.label.masks}):
        said = [read(row.label.masks, name) for row in rows if knows(row.label, name) or name in row.label.masks]
        drawn = [mask for mask in said if mask is not None]
        result = merge_masks([mask if mask is not None else np.zeros_like(drawn[0]) for mask in said], rule)
        if result.any():
            merged[name] = keep(encode_mask(result))
    return merged


def merge_known(rows: Sequence[Labelled]) -> list[str] | None:
    """Labels that any of the annotators could draw; None: all."""
    known = [row.label.known for row in rows]
    if any(names is None for names in known):
        return None
    return list(dict.fromkeys(name for names in known for name in names or ()))


def _staple(masks: Sequence[Mask]) -> Mask:
    if not staple_is_there():
        raise MergeError("merging by STAPLE needs SimpleITK: pip install 'maskloop[staple]'")
    import SimpleITK as sitk

    staple = sitk.STAPLEImageFilter()
    staple.SetForegroundValue(1.0)
    staple.SetMaximumIterations(MOST_ITERATIONS)
    found = staple.Execute([sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks])
    probability = sitk.GetArrayFromImage(found)
    if not np.isfinite(probability).all():
        raise MergeError(
            f"STAPLE found no estimate for {len(masks)} masks of {[int(mask.sum()) for mask in masks]} pixels; "
            "set MASKLOOP_MERGE_RULE=majority"
        )
    merged: Mask = probability > 0.5
    return merged
