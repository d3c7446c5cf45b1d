"""The replies to /predict: a prediction of the pool as JSON for Label Studio, encoded once and kept."""

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from maskloop_backend.masks.regions import to_regions
from maskloop_learner.pool.masks import decode_mask
from maskloop_learner.pool.schema import Prediction, Score
from maskloop_learner.pool.store import Store

UNTRAINED = "maskloop-untrained"
"""Model version of a project that has no model yet."""
UNANSWERED = "maskloop-unanswered"
"""Model version of an empty reply that is no prediction: nothing was predicted, for a reason in the log."""


@dataclass(frozen=True)
class Control:
    """Where a project's regions go: names of the tags of its label config."""

    from_name: str
    to_name: str


def empty_result(model_version: str) -> bytes:
    """The reply for a task that cannot be predicted.

    Label Studio stores every reply as a prediction. A null score would be served before all others, and under
    the current version an empty mask would pass for the model's. So the score is 1 (served last) and the version
    is one that is never served: it is not shown, not ordered by, and Label Studio's batches ask for it again.
    """
    return json.dumps({"result": [], "score": 1.0, "model_version": model_version}).encode()


def make_result(prediction: Prediction, scores: list[Score], *, control: Control, store: Store) -> dict[str, Any]:
    """One prediction as Label Studio takes it: regions, serving score 1 - uncertainty, model version.

    Raises StoreError when a mask is missing and ValueError when one cannot be read.
    """
    if prediction.uncertainty is None:
        raise ValueError(f"prediction {prediction.id} has no uncertainty")
    regions = to_regions(
        {score.label: decode_mask(store.get("masks", score.mask_digest)) for score in scores},
        from_name=control.from_name,
        to_name=control.to_name,
        scores={score.label: score.probability for score in scores},
        region_prefix=f"{prediction.version_id}-{prediction.image_digest}",
    )
    score = min(1.0, max(0.0, round(1.0 - prediction.uncertainty, 9)))
    return {"result": regions, "score": score, "model_version": prediction.version_id}


def encode_result(prediction: Prediction, scores: list[Score], *, control: Control, store: Store) -> bytes:
    """`make_result` as JSON."""
    return json.dumps(make_result(prediction, scores, control=control, store=store), separators=(",", ":")).encode()


class ResultCache:
    """Encoded results by key, the least recently used out first once they exceed `max_bytes`. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._kept: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[object, ...]) -> bytes | None:
        """The result, or None."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: tuple[object, ...], value: bytes) -> None:
        """Keep a result; one larger than the whole cache is not kept."""
        with self._lock:
            self.bytes -= len(self._kept.pop(key, b""))
            if len(value) > self.max_bytes:
                return
            self._kept[key] = value
            self.bytes += len(value)
            while self.bytes > self.max_bytes:
                self.bytes -= len(self._kept.popitem(last=False)[1])
