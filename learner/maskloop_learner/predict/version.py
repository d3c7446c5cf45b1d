"""The identity of predictions: a short digest of everything that determines a mask."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict


class VersionConfig(TypedDict):
    """What determines the masks and scores of a prediction version."""

    project: int
    weights: str
    backbone: str
    prompts: dict[str, str]
    """Label -> what is asked of an image about which nothing is known."""
    templates: NotRequired[dict[str, str]]
    """Label -> template of its prompts, where that says more."""
    sheet: NotRequired[str]
    """Digest of the prompts that sheets gave to single images."""
    tags: NotRequired[int]
    """How often the tags that masks are drawn with were changed in the label config."""
    threshold: float
    min_speck_area: int
    max_hole_area: int
    method: str
    samples: int
    """Of the masks, and of all scores but the ranks'."""
    rank_method: NotRequired[str]
    rank_samples: NotRequired[int]
    """Of the ranks; as the masks' where absent."""
    temperature: NotRequired[float]
    """The logits are divided by it; 1 where absent."""
    precision: NotRequired[str]
    """fp32 where absent."""


def prediction_version(config: VersionConfig) -> str:
    """`maskloop-` and 12 hex digits; the same for equal configs on every machine, another for any change."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"maskloop-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def ranks_apart(config: Mapping[str, Any]) -> bool:
    """Whether a version ranks images in another way than it draws their masks."""
    show = config["method"], config["samples"]
    return (config.get("rank_method", show[0]), config.get("rank_samples", show[1])) != show
