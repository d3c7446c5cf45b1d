"""The GPU worker's job: predict one image and write mask, uncertainty and scores to the pool."""

import logging
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import IntegrityError

from maskloop_learner.pool.images import ImageError, open_image
from maskloop_learner.pool.maps import encode_map
from maskloop_learner.pool.masks import encode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import prediction_for, rank_for
from maskloop_learner.pool.schema import Prediction, Score
from maskloop_learner.predict.version import ranks_apart
from maskloop_queue.embedding import embed_beside
from maskloop_queue.ranking import ScoringError, find_prompts, find_version, make_rank, predict_with, rank, write_rank
from maskloop_queue.warm import Predictors

if TYPE_CHECKING:
    from maskloop_learner.predict.predictor import LabelPrediction

__all__ = ["Predictors", "ScoringError", "score"]

log = logging.getLogger(__name__)

UNKNOWN_LABELS = "the model knows none of the labels of this image yet; it learns them with the next training"


def score(
    pool: Pool,
    predictors: Predictors,
    version_id: str,
    image_digest: str,
    prompts: str = "",
    *,
    keep_maps: bool = True,
) -> bool:
    """Make the prediction of one image, asked `prompts`, unless it is there; return whether it was made now.

    An image that cannot be read gets a prediction with the reason in it, so that it is not tried for ever. The
    prediction's uncertainty is that of the version's ranks, which is made now where it lacks. Raises ModelBroken when
    the version's weights are missing or were altered. `keep_maps`: keep how unsure the model is of every pixel.
    """
    config = find_version(pool, version_id)
    with pool.read() as session:
        if prediction_for(session, version_id, image_digest, prompts) is not None:
            return False
    asked = find_prompts(pool, config, prompts)
    image = None
    started = time.perf_counter()
    row = Prediction(version_id=version_id, image_digest=image_digest, prompt_digest=prompts)
    scores: list[Score] = []
    try:
        if not asked:
            raise ImageError(UNKNOWN_LABELS)
        image = open_image(pool.store.get("images", image_digest))
    except ImageError as error:
        row.error = str(error)
    else:
        question = pool, predictors, version_id, config, image_digest, image
        found = predict_with(*question, asked=asked, ranks=False, keep_entropy=keep_maps)
        if ranks_apart(config):
            rank(pool, predictors, version_id, image_digest, prompts)
        else:
            write_rank(pool, make_rank(version_id, image_digest, prompts, found, seconds=0.0))
        scores = [_score_row(pool, label, prediction, asked[label]) for label, prediction in found.items()]
    row.seconds = time.perf_counter() - started
    try:
        with pool.write() as session:
            if scores:
                placed = rank_for(session, version_id, image_digest, prompts)
                if placed is None:
                    raise ScoringError(f"image {image_digest} has lost its rank under {version_id} while it was scored")
                row.uncertainty = placed.uncertainty
            session.add(row)
            session.flush()
            for entry in scores:
                entry.prediction_id = row.id
                session.add(entry)
    except IntegrityError:
        # Jobs are at-least-once: another worker wrote the same prediction first, and both are equal.
        with pool.read() as session:
            if prediction_for(session, version_id, image_digest, prompts) is None:
                raise
        log.info("prediction of %s under %s was there already", image_digest[:12], version_id)
        return False
    if image is not None:
        precision = config.get("precision", "fp32")
        embed_beside(pool, predictors, config["weights"], image_digest, image, precision=precision)
    return True


def _score_row(pool: Pool, label: str, found: "LabelPrediction", asked: dict[str, Any]) -> Score:
    return Score(
        label=label,
        prompt=asked["text"],
        prompt_source=asked["source"],
        mask_digest=pool.store.put("masks", encode_mask(found.mask)),
        area=int(found.mask.sum()),
        probability=found.probability,
        predictive_entropy=found.predictive_entropy,
        expected_entropy=found.expected_entropy,
        mutual_information=found.mutual_information,
        variance=found.variance,
        aggregates=found.aggregates,
        map_digest=_keep_map(pool, found),
        method=found.method,
        samples=found.samples,
    )


def _keep_map(pool: Pool, found: "LabelPrediction") -> str | None:
    if found.entropy is None:
        return None
    height, width = found.mask.shape
    return pool.store.put("maps", encode_map(found.entropy, width=width, height=height))
