"""Masks as the regions of Label Studio's results, in both directions: brush, bitmask and polygon."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from maskloop_backend.labelstudio.controls import REGION_TYPES, Control, MaskKind
from maskloop_backend.masks.bitmask import BitmaskError, decode_bitmask, encode_bitmask
from maskloop_backend.masks.polygons import PolygonError, decode_polygon, encode_polygons
from maskloop_backend.masks.rle import RleError, decode_rle, encode_rle
from maskloop_learner.pool.masks import Mask

_KINDS: dict[str, MaskKind] = {type_: kind for kind, type_ in REGION_TYPES.items()}
_FIELDS: dict[MaskKind, str] = {"brush": "rle", "bitmask": "imageDataURL", "polygon": "points"}
"""Kind -> where in a region's value the mask is."""


class RegionError(ValueError):
    """A region that cannot be read; the message names the region, what is wrong and what to do."""


def to_regions(
    masks: Mapping[str, Mask],
    *,
    controls: Sequence[Control],
    scores: Mapping[str, float] | None = None,
    region_prefix: str,
) -> list[dict[str, Any]]:
    """The regions of all masks that are not empty, in the order of masks.

    masks: label -> bool H x W at image size; controls: the mask tags on that image; scores: label -> the region's
    score, 0..1. A label is drawn with the first tag that has it, and left out when none has. Brush and bitmask
    give one region per label, polygons one per part. Ids follow from region_prefix, image, label and part alone,
    so pushing the same masks again gives the same regions.
    """
    regions = []
    for label, mask in masks.items():
        control = next((control for control in controls if label in control.labels), None)
        if control is None or not mask.any():
            continue
        for number, value in enumerate(_values(control.kind, mask)):
            part = (str(number),) if control.kind == "polygon" else ()
            named = "\0".join((region_prefix, control.to_name, label, *part))
            region: dict[str, Any] = {
                "id": hashlib.sha256(named.encode()).hexdigest()[:10],
                "type": REGION_TYPES[control.kind],
                "from_name": control.from_name,
                "to_name": control.to_name,
                "origin": "prediction",
                "image_rotation": 0,
                "original_width": mask.shape[1],
                "original_height": mask.shape[0],
                "value": {**value, REGION_TYPES[control.kind]: [label]},
            }
            if scores is not None and label in scores:
                region["score"] = float(scores[label])
            regions.append(region)
    return regions


def from_regions(
    result: Sequence[Mapping[str, Any]], *, controls: Sequence[Control], width: int, height: int
) -> dict[str, Mask]:
    """One mask per label out of an annotation's result: all of a label's regions united, empty without any.

    controls: the mask tags on one image; width, height: that image in pixels as shown. Returns every label of the
    controls -> bool height x width, whatever kinds of region it was drawn with. Regions of other tags and other
    images are left out. image_rotation is how the annotator had turned the view; masks are always those of the
    unturned image, so it changes nothing.
    Raises RegionError for a region of another size, with an unknown label or without a readable mask.
    """
    if isinstance(result, str) or not isinstance(result, Sequence):
        raise RegionError(f"a result must be a list of regions, got {type(result).__name__}; export it again")
    images = {control.from_name: control.to_name for control in controls}
    labels = dict.fromkeys(label for control in controls for label in control.labels)
    masks: dict[str, Mask] = {label: np.zeros((height, width), dtype=np.bool_) for label in labels}
    for region in result:
        if not isinstance(region, Mapping):
            raise RegionError(f"a region must be an object, got {type(region).__name__}; export it again")
        if not _concerns(region, images):
            continue
        name = f"region {region.get('id')!r}"
        for side, expected in (("original_width", width), ("original_height", height)):
            if region.get(side) != expected:
                raise RegionError(
                    f"{name}: {side} is {region.get(side)!r}, the image has {expected}; was the image replaced? "
                    "Delete the region and draw it again"
                )
        # A tag that was changed into one of another kind keeps its name, and its old regions keep their form.
        kind = _KINDS[region["type"]]
        value = region.get("value")
        if not isinstance(value, Mapping) or _FIELDS[kind] not in value:
            raise RegionError(
                f"{name}: has no {kind} mask (value.{_FIELDS[kind]}); delete the region and draw it again"
            )
        drawn = _read_labels(value.get(REGION_TYPES[kind]), masks, f"value.{REGION_TYPES[kind]}", name)
        mask = _read_mask(kind, value, name, width=width, height=height)
        for label in drawn:
            masks[label] |= mask
    return masks


def _values(kind: MaskKind, mask: Mask) -> Iterator[dict[str, Any]]:
    if kind == "brush":
        yield {"format": "rle", "rle": encode_rle(mask)}
    elif kind == "bitmask":
        yield {"imageDataURL": encode_bitmask(mask)}
    else:
        for points in encode_polygons(mask):
            yield {"points": points, "closed": True}


def _concerns(region: Mapping[str, Any], images: Mapping[str, str]) -> bool:
    """Whether a region is a mask of one of our tags on their image."""
    type_, from_name = region.get("type"), region.get("from_name")
    if not isinstance(type_, str) or not isinstance(from_name, str) or type_ not in _KINDS or from_name not in images:
        return False
    if not isinstance(region.get("to_name"), str):
        raise RegionError(f"region {region.get('id')!r}: names no image (to_name); delete it and draw it again")
    return bool(region["to_name"] == images[from_name])


def _read_labels(drawn: Any, known: Mapping[str, Mask], where: str, name: str) -> list[str]:
    if not isinstance(drawn, list) or not drawn:
        raise RegionError(f"{name}: has no label ({where}); choose one in Label Studio")
    for label in drawn:
        if not isinstance(label, str) or label not in known:
            raise RegionError(
                f"{name}: label {label!r} is not in the label config ({', '.join(known)}); "
                "choose another or add it to the config"
            )
    return drawn


def _read_mask(kind: MaskKind, value: Mapping[str, Any], name: str, *, width: int, height: int) -> Mask:
    try:
        if kind == "brush":
            if value.get("format", "rle") != "rle":
                raise RleError(f"the brush mask has the format {value['format']!r}, not rle")
            return decode_rle(value["rle"], width=width, height=height)
        if kind == "bitmask":
            return decode_bitmask(value["imageDataURL"], width=width, height=height)
        if not value.get("closed", True):
            raise PolygonError("the polygon was not closed")
        return decode_polygon(value["points"], width=width, height=height)
    except (RleError, BitmaskError, PolygonError) as error:
        raise RegionError(f"{name}: {error}; delete the region and draw it again") from error
