"""The GPU worker's job: predict one image and write mask, uncertainty and scores to the pool."""

import logging
import math
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from sqlalchemy.exc import IntegrityError

from maskloop_learner.pool.images import ImageError, open_image
from maskloop_learner.pool.masks import encode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import prediction_for
from maskloop_learner.pool.schema import Prediction, PredictionVersion, Score

if TYPE_CHECKING:
    from maskloop_learner.predict.predictor import LabelPrediction, Predictor

log = logging.getLogger(__name__)


class ScoringError(RuntimeError):
    """A prediction could not be made, for a reason that is not the image's."""


class Predictors:
    """Models kept warm in this process, the least recently used one out first."""

    def __init__(self, *, device: str, capacity: int = 2) -> None:
        self.device = device
        self.capacity = capacity
        self._warm: OrderedDict[str, Predictor] = OrderedDict()

    def get(self, pool: Pool, weights_digest: str) -> "Predictor":
        """The predictor of these weights, loaded from the store when it is not warm."""
        from maskloop_learner.predict.predictor import Predictor

        if weights_digest not in self._warm:
            self._warm[weights_digest] = Predictor(
                weights=pool.store.get("weights", weights_digest), device=self.device
            )
            while len(self._warm) > self.capacity:
                self._warm.popitem(last=False)
        self._warm.move_to_end(weights_digest)
        return self._warm[weights_digest]


def score(pool: Pool, predictors: Predictors, version_id: str, image_digest: str) -> bool:
    """Make the prediction of one image unless it is there; return whether it was made now.

    An image that cannot be read gets a prediction with the reason in it, so that it is not tried for ever.
    """
    with pool.read() as session:
        version = session.get(PredictionVersion, version_id)
        if version is None:
            raise ScoringError(f"prediction version {version_id!r} is not in the pool")
        if prediction_for(session, version_id, image_digest) is not None:
            return False
        config = version.config
    started = time.perf_counter()
    row = Prediction(version_id=version_id, image_digest=image_digest)
    scores: list[Score] = []
    try:
        image = open_image(pool.store.get("images", image_digest))
    except ImageError as error:
        row.error = str(error)
    else:
        found = predictors.get(pool, config["weights"]).predict(
            image,
            prompts=config["prompts"],
            samples=config["samples"],
            threshold=config["threshold"],
            min_speck_area=config["min_speck_area"],
            max_hole_area=config["max_hole_area"],
            version=version_id,
            image_digest=image_digest,
        )
        scores = [_score_row(pool, label, prediction) for label, prediction in found.items()]
        # Rounded so that the pool, Label Studio's database and its JSON order images alike.
        row.uncertainty = round(max(entry.predictive_entropy for entry in scores), 9)
        if not math.isfinite(row.uncertainty):
            raise ScoringError(f"the uncertainty of image {image_digest} under {version_id} is {row.uncertainty!r}")
    row.seconds = time.perf_counter() - started
    try:
        with pool.write() as session:
            session.add(row)
            session.flush()
            for entry in scores:
                entry.prediction_id = row.id
                session.add(entry)
    except IntegrityError:
        # Jobs are at-least-once: another worker wrote the same prediction first, and both are equal.
        with pool.read() as session:
            if prediction_for(session, version_id, image_digest) is None:
                raise
        log.info("prediction of %s under %s was there already", image_digest[:12], version_id)
        return False
    return True


def _score_row(pool: Pool, label: str, found: "LabelPrediction") -> Score:
    return Score(
        label=label,
        mask_digest=pool.store.put("masks", encode_mask(found.mask)),
        area=int(found.mask.sum()),
        probability=found.probability,
        predictive_entropy=found.predictive_entropy,
        expected_entropy=found.expected_entropy,
        mutual_information=found.mutual_information,
        variance=found.variance,
        method=found.method,
        samples=found.samples,
    )
