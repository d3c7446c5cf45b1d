"""The one place where imports and exports touch a project's label config and the form of its regions."""

from collections.abc import Mapping, Sequence
from typing import Any

from maskloop_backend.labelstudio.config import read_interface
from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.masks import regions
from maskloop_backend.masks.polygons import is_noise
from maskloop_backend.transfer import Refused
from maskloop_learner.pool.masks import Mask

__all__ = ["draw", "read_interface", "undraw"]


def draw(masks: Mapping[str, Mask], interface: Interface, *, prefix: str, by_hand: bool) -> list[dict[str, Any]]:
    """Regions of masks (label -> bool H x W at the image's size); `by_hand`: as an annotator's, not a prediction's.

    Raises Refused for masks by hand that polygons would change: of a label, every pixel was meant.
    """
    for label in masks if by_hand else ():
        kind = next((control.kind for control in interface.controls if label in control.labels), None)
        if kind == "polygon" and is_noise(masks[label]):
            raise Refused(f"the mask of {label!r} has too many outlines for polygons; draw it with BrushLabels")
    drawn = regions.to_regions(masks, controls=interface.controls, region_prefix=prefix)
    return [{**region, "origin": "manual"} for region in drawn] if by_hand else drawn


def undraw(result: Sequence[Mapping[str, Any]], interface: Interface, *, width: int, height: int) -> dict[str, Mask]:
    """Masks out of an annotation's regions, one for every label. Raises RegionError."""
    return regions.from_regions(result, controls=interface.controls, width=width, height=height)
