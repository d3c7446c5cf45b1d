"""Masks as Label Studio's brush regions, in both directions."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskloop_backend.labelstudio.controls import Control
from maskloop_backend.masks.rle import RleError, decode_rle, encode_rle
from maskloop_learner.pool.masks import Mask


class RegionError(ValueError):
    """A region that cannot be read; the message names the region, what is wrong and what to do."""


def to_regions(
    masks: Mapping[str, Mask],
    *,
    controls: Sequence[Control],
    scores: Mapping[str, float] | None = None,
    region_prefix: str,
) -> list[dict[str, Any]]:
    """One brush region per label whose mask is not empty, in the order of masks.

    masks: label -> bool H x W at image size; scores: label -> the region's score, 0..1. Ids follow from
    region_prefix and label alone, so pushing the same masks again gives the same regions.
    """
    regions = []
    for label, mask in masks.items():
        if not mask.any():
            continue
        control = next((each for each in controls if label in each.labels), None)
        if control is None:
            continue
        from_name, to_name = control.from_name, control.to_name
        region: dict[str, Any] = {
            "id": hashlib.sha256(f"{region_prefix}\0{label}".encode()).hexdigest()[:10],
            "type": "brushlabels",
            "from_name": from_name,
            "to_name": to_name,
            "origin": "prediction",
            "image_rotation": 0,
            "original_width": mask.shape[1],
            "original_height": mask.shape[0],
            "value": {"format": "rle", "rle": encode_rle(mask), "brushlabels": [label]},
        }
        if scores is not None and label in scores:
            region["score"] = float(scores[label])
        regions.append(region)
    return regions


def from_regions(
    result: Sequence[Mapping[str, Any]],
    *,
    controls: Sequence[Control],
    width: int,
    height: int,
) -> dict[str, Mask]:
    """One mask per label out of an annotation's result: all of a label's regions united, empty without any.

    width, height: the image in pixels as shown. Returns every one of labels -> bool height x width. Regions of
    other tags are left out. image_rotation is how the annotator had turned the view; the pixels are always
    those of the unturned image, so it changes nothing.
    Raises RegionError for a region of another size, with an unknown label or without a readable RLE.
    """
    labels = [label for control in controls for label in control.labels]
    from_name = controls[0].from_name
    masks: dict[str, Mask] = {label: np.zeros((height, width), dtype=np.bool_) for label in labels}
    for region in result:
        if not isinstance(region, Mapping):
            raise RegionError(f"a region must be an object, got {type(region).__name__}; export it again")
        if region.get("from_name") != from_name or region.get("type") != "brushlabels":
            continue
        name = f"region {region.get('id')!r}"
        for side, expected in (("original_width", width), ("original_height", height)):
            if region.get(side) != expected:
                raise RegionError(
                    f"{name}: {side} is {region.get(side)!r}, the image has {expected}; was the image replaced? "
                    "Delete the region and draw it again"
                )
        value = region.get("value")
        if not isinstance(value, Mapping) or value.get("format", "rle") != "rle" or "rle" not in value:
            raise RegionError(f"{name}: has no brush mask (value.rle); delete the region and draw it again")
        drawn = value.get("brushlabels")
        if not isinstance(drawn, list) or not drawn:
            raise RegionError(f"{name}: has no label (value.brushlabels); choose one in Label Studio")
        for label in drawn:
            if not isinstance(label, str) or label not in masks:
                raise RegionError(
                    f"{name}: label {label!r} is not in the label config ({', '.join(labels)}); "
                    "choose another or add it to the config"
                )
        try:
            mask = decode_rle(value["rle"], width=width, height=height)
        except RleError as error:
            raise RegionError(f"{name}: {error}; delete the region and draw it again") from error
        for label in drawn:
            masks[label] |= mask
    return masks
