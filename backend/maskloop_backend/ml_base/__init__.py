"""The class surface of label-studio-ml 2.x on a server of our own: a user's subclass changes its import line only."""

from maskloop_backend.ml_base.base import LabelStudioMLBase
from maskloop_backend.ml_base.checks import PredictionError
from maskloop_backend.ml_base.helpers import (
    DATA_UNDEFINED_NAME,
    InMemoryLRUDictCache,
    get_choice,
    get_first_tag_keys,
    get_image_size,
    get_single_tag_keys,
    is_skipped,
    match_labels,
)
from maskloop_backend.ml_base.interface import MissingExtra
from maskloop_backend.ml_base.registered import predict_fn, update_fn
from maskloop_backend.ml_base.responses import ModelResponse, PredictionValue

__all__ = [
    "DATA_UNDEFINED_NAME",
    "InMemoryLRUDictCache",
    "LabelStudioMLBase",
    "MissingExtra",
    "ModelResponse",
    "PredictionError",
    "PredictionValue",
    "get_choice",
    "get_first_tag_keys",
    "get_image_size",
    "get_single_tag_keys",
    "is_skipped",
    "match_labels",
    "predict_fn",
    "update_fn",
]
