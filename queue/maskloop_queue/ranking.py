"""The GPU worker's job before the masks: where a prediction version places an image, with as few samples as do."""

import logging
import math
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import IntegrityError

from maskloop_learner.pool.images import ImageError, open_image
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import rank_for
from maskloop_learner.pool.schema import PredictionVersion, PromptSet, Rank
from maskloop_learner.pool.store import BlobError
from maskloop_learner.train.fallback import version_fault
from maskloop_queue.embedding import embed_beside
from maskloop_queue.warm import Predictors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from maskloop_learner.predict.predictor import LabelPrediction

log = logging.getLogger(__name__)


class ScoringError(RuntimeError):
    """A prediction could not be made, for a reason that is not the image's."""


class ModelBroken(ScoringError):
    """The weights of a prediction version are lost or altered, so that nothing more can be predicted with it."""

    def __init__(self, version_id: str, reason: str) -> None:
        super().__init__(f"{version_id} can predict nothing more: {reason}; see `maskloop models verify`")
        self.version_id = version_id


def find_version(pool: Pool, version_id: str) -> dict[str, Any]:
    """The config of a prediction version.

    Raises ScoringError when the pool has no such version, ModelBroken when its weights are known to be broken.
    """
    with pool.read() as session:
        version = session.get(PredictionVersion, version_id)
        if version is None:
            raise ScoringError(f"prediction version {version_id!r} is not in the pool")
        if fault := version_fault(session, version_id):
            raise ModelBroken(version_id, fault)
        return version.config


def find_prompts(pool: Pool, config: dict[str, Any], prompts: str) -> dict[str, dict[str, Any]]:
    """Label -> {"text", "source"} that is asked of an image: those of a set of prompts, or the version's own.

    Labels that the model does not know are left out. Raises ScoringError when the pool has no such set.
    """
    if not prompts:
        return {label: {"text": text, "source": "template"} for label, text in config["prompts"].items()}
    with pool.read() as session:
        found = session.get(PromptSet, prompts)
        if found is None:
            raise ScoringError(f"the set of prompts {prompts!r} is not in the pool")
        return {label: asked for label, asked in found.prompts.items() if label in config["prompts"]}


def predict_with(
    pool: Pool,
    predictors: Predictors,
    version_id: str,
    config: dict[str, Any],
    image_digest: str,
    image: "NDArray[np.uint8]",
    *,
    asked: dict[str, dict[str, Any]],
    ranks: bool,
    keep_entropy: bool = False,
) -> "dict[str, LabelPrediction]":
    """Predict an image as the version's config says: in the way of its ranks or of its masks.

    `asked` is what `find_prompts` gives. Raises ModelBroken when the weights are missing or were altered.
    """
    way = "rank_" if ranks and "rank_method" in config else ""
    try:
        predictor = predictors.get(pool, config["weights"], config.get("precision", "fp32"))
    except BlobError as error:
        raise ModelBroken(version_id, str(error)) from error
    return predictor.predict(
        image,
        prompts={label: prompt["text"] for label, prompt in asked.items()},
        method=config[f"{way}method"],
        samples=config[f"{way}samples"],
        threshold=config["threshold"],
        min_speck_area=config["min_speck_area"],
        max_hole_area=config["max_hole_area"],
        temperature=config.get("temperature", 1.0),
        version=version_id,
        image_digest=image_digest,
        keep_entropy=keep_entropy,
    )


def rank(pool: Pool, predictors: Predictors, version_id: str, image_digest: str, prompts: str = "") -> bool:
    """Place one image unless it is placed; return whether it was placed now.

    An image that cannot be read, or of which no label is known, is left to its prediction, which keeps the reason.
    """
    config = find_version(pool, version_id)
    with pool.read() as session:
        if rank_for(session, version_id, image_digest, prompts) is not None:
            return False
    asked = find_prompts(pool, config, prompts)
    if not asked:
        return False
    started = time.perf_counter()
    try:
        image = open_image(pool.store.get("images", image_digest))
    except ImageError as error:
        log.warning("image %s cannot be ranked: %s", image_digest[:12], error)
        return False
    found = predict_with(pool, predictors, version_id, config, image_digest, image, asked=asked, ranks=True)
    seconds = time.perf_counter() - started
    placed = write_rank(pool, make_rank(version_id, image_digest, prompts, found, seconds=seconds))
    embed_beside(pool, predictors, config["weights"], image_digest, image, precision=config.get("precision", "fp32"))
    return placed


def make_rank(
    version_id: str, image_digest: str, prompts: str, found: "dict[str, LabelPrediction]", *, seconds: float
) -> Rank:
    """The image's place. Raises ScoringError for an uncertainty that is not finite."""
    # Rounded so that the pool, Label Studio's database and its JSON order images alike.
    uncertainty = round(max(each.predictive_entropy for each in found.values()), 9)
    if not math.isfinite(uncertainty):
        raise ScoringError(f"the uncertainty of image {image_digest} under {version_id} is {uncertainty!r}")
    first = next(iter(found.values()))
    return Rank(
        version_id=version_id,
        image_digest=image_digest,
        prompt_digest=prompts,
        uncertainty=uncertainty,
        aggregates={label: each.aggregates for label, each in found.items()},
        method=first.method,
        samples=first.samples,
        seconds=seconds,
    )


def write_rank(pool: Pool, row: Rank) -> bool:
    """Write the place; False when another worker, with the same result, was first."""
    key = row.version_id, row.image_digest, row.prompt_digest
    try:
        with pool.write() as session:
            session.add(row)
    except IntegrityError:
        with pool.read() as session:
            if rank_for(session, *key) is None:
                raise
        return False
    return True
