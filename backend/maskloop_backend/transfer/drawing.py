"""The one place where imports and exports touch a project's label config and the form of its regions."""

from collections.abc import Mapping, Sequence
from typing import Any

from maskloop_backend.labelstudio import config
from maskloop_backend.labelstudio.controls import Control, Interface
from maskloop_backend.masks import regions
from maskloop_learner.pool.masks import Mask


def read_interface(label_config: str) -> Interface:
    """What a label config lets people draw. Raises ConfigError when it cannot be served."""
    control = config.read_control(label_config)
    brush = Control("brush", control.from_name, control.to_name, control.data_key, tuple(control.labels))
    return Interface((brush,))


def kept_interface(control: Mapping[str, Any]) -> Interface:
    """The same out of `projects.control` of the pool."""
    if "controls" in control:
        return Interface.from_json(control)
    labels = tuple(control["labels"])
    return Interface((Control("brush", control["from_name"], control["to_name"], control["data_key"], labels),))


def draw(masks: Mapping[str, Mask], interface: Interface, *, prefix: str, by_hand: bool) -> list[dict[str, Any]]:
    """Regions of masks (label -> bool H x W at the image's size); `by_hand`: as an annotator's, not a prediction's."""
    (control,) = interface.controls
    drawn = regions.to_regions(masks, from_name=control.from_name, to_name=control.to_name, region_prefix=prefix)
    return [{**region, "origin": "manual"} for region in drawn] if by_hand else drawn


def undraw(result: Sequence[Mapping[str, Any]], interface: Interface, *, width: int, height: int) -> dict[str, Mask]:
    """Masks out of an annotation's regions, one for every label. Raises RegionError."""
    (control,) = interface.controls
    return regions.from_regions(
        result, from_name=control.from_name, labels=list(interface.labels), width=width, height=height
    )
