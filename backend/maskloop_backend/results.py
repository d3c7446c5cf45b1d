"""The replies to /predict: predictions of the pool as JSON for Label Studio, encoded once and kept."""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.masks.regions import to_regions
from maskloop_learner.pool.masks import decode_mask
from maskloop_learner.pool.schema import Prediction, Score
from maskloop_learner.pool.store import Store
from maskloop_learner.select.order import plain_score

UNTRAINED = "maskloop-untrained"
"""Model version of a project that has no model yet."""
UNANSWERED = "maskloop-unanswered"
"""Model version of an empty reply that is no prediction: nothing was predicted, for a reason in the log."""

BATCHED = "maskloop-batch"
"""Model version of empty predictions that carry the order of a batch in a project that has no model yet."""


@dataclass(frozen=True)
class Predicted:
    """What was predicted of one image of a task. A prediction with an error has no scores."""

    data_key: str
    prediction: Prediction
    scores: list[Score]


def empty_result(model_version: str) -> bytes:
    """The reply for a task that cannot be predicted.

    Label Studio stores every reply as a prediction. A null score would be served before all others, and under
    the current version an empty mask would pass for the model's. So the score is 1 (served last) and the version
    is one that is never served: it is not shown, not ordered by, and Label Studio's batches ask for it again.
    """
    return json.dumps({"result": [], "score": 1.0, "model_version": model_version}).encode()


def make_result(
    images: Sequence[Predicted], *, interface: Interface, store: Store, blind: bool = False
) -> dict[str, Any]:
    """One task's prediction as Label Studio takes it: the regions of all its images, serving score, model version.

    The serving score is 1 - uncertainty of the most uncertain image, whatever batch the task is in. A blind task has
    it too, and no region: it comes in its place in the order, and its annotator is shown nothing. Raises StoreError
    when a mask is missing and ValueError when one cannot be read, or when no image could be predicted.
    """
    uncertainties = [image.prediction.uncertainty for image in images if image.prediction.uncertainty is not None]
    if not uncertainties:
        raise ValueError(f"prediction {images[0].prediction.id if images else None} has no uncertainty")
    regions: list[dict[str, Any]] = []
    for image in () if blind else images:
        regions += to_regions(
            {score.label: decode_mask(store.get("masks", score.mask_digest)) for score in image.scores},
            controls=interface.on(image.data_key).controls,
            scores={score.label: score.probability for score in image.scores},
            # Whatever version and prompts drew it: the page puts an accepted suggestion in the place of the region
            # with its id. Were the ids apart, the mask before would stay beneath, and the label be both united.
            region_prefix=image.prediction.image_digest,
        )
    return {
        "result": regions,
        "score": plain_score(max(uncertainties)),
        "model_version": images[0].prediction.version_id,
    }


def encode_result(images: Sequence[Predicted], *, interface: Interface, store: Store, blind: bool = False) -> bytes:
    """`make_result` as JSON."""
    result = make_result(images, interface=interface, store=store, blind=blind)
    return json.dumps(result, separators=(",", ":")).encode()


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
