"""The GPU worker's work beside the predictions: where an image lies among the others, before there is a model too."""

import logging
from typing import TYPE_CHECKING

from sqlalchemy.exc import OperationalError

from maskloop_learner.model.backbones import find_backbone
from maskloop_learner.pool.database import reason_of
from maskloop_learner.pool.embedding import has_embedding, note_unembeddable, write_embedding
from maskloop_learner.pool.images import ImageError, open_image
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.store import StoreDown
from maskloop_queue.warm import Predictors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


def embed(pool: Pool, predictors: Predictors, backbone: str, image_digest: str) -> bool:
    """Embed one image with the towers that new trainings start from, unless it is; return whether it was done now.

    An image that cannot be read is noted as such, so that it is not tried for ever. Raises BackboneError when the
    towers are not there.
    """
    spec = find_backbone(backbone)
    space = predictors.space(spec)
    with pool.read() as session:
        if has_embedding(session, image_digest, space):
            return False
    try:
        image = open_image(pool.store.get("images", image_digest))
    except ImageError as error:
        log.warning("image %s cannot be embedded: %s", image_digest[:12], error)
        return note_unembeddable(pool, image_digest, space)
    return write_embedding(pool, image_digest, space, predictors.embedder(spec).embed(image))


def embed_beside(
    pool: Pool,
    predictors: Predictors,
    weights: str,
    image_digest: str,
    image: "NDArray[np.uint8]",
    *,
    precision: str = "fp32",
) -> None:
    """Embed an image that is being predicted with these weights, on the towers below them, unless it is.

    Whatever goes wrong is logged: a prediction is worth more.
    """
    try:
        model = predictors.get(pool, weights, precision).model
        base = model.base if model.spec.trains == "adapters" else None
        space = predictors.space(model.spec, base)
        with pool.read() as session:
            if has_embedding(session, image_digest, space):
                return
        write_embedding(pool, image_digest, space, predictors.embedder(model.spec, base).embed(image))
    except (OperationalError, StoreDown) as error:
        # An outage: the next job meets it too, and waits it out. The image is embedded by a job of its own.
        said = reason_of(error) if isinstance(error, OperationalError) else error
        log.warning("image %s is predicted, and not embedded yet: %s", image_digest[:12], said)
    except Exception as error:
        log.warning("image %s is predicted, and could not be embedded: %s", image_digest[:12], error, exc_info=True)
