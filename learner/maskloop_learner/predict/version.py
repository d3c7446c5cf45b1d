"""The identity of predictions: a short digest of everything that determines a mask."""

import hashlib
import json
from typing import TypedDict


class VersionConfig(TypedDict):
    """What determines the masks and scores of a prediction version."""

    project: int
    weights: str
    backbone: str
    prompts: dict[str, str]
    threshold: float
    min_speck_area: int
    max_hole_area: int
    method: str
    samples: int


def prediction_version(config: VersionConfig) -> str:
    """`maskloop-` and 12 hex digits; the same for equal configs on every machine, another for any change."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"maskloop-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
