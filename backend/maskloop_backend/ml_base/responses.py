"""What `predict` may return besides plain lists: a response that holds one entry per task."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, field_serializer, field_validator

Fields = dict[str, Any]


def plain_regions(result: Iterable[Any]) -> list[Any]:
    """A `result` as Label Studio takes it; label-studio-sdk's Region objects become dicts, their relations last."""
    regions, relations = list[Any](), list[Any]()
    for region in result:
        if hasattr(region, "_dict"):
            regions.append(region._dict())
            relations += region._dict_relations() if getattr(region, "relations", None) else []
        elif hasattr(region, "model_dump"):
            regions.append(region.model_dump())
        else:
            regions.append(region)
    return regions + relations


class PredictionValue(BaseModel):
    """One prediction of one task: regions, a score (finite; Label Studio serves the lowest first) and a version."""

    model_config = ConfigDict(protected_namespaces=(), arbitrary_types_allowed=True)

    model_version: Any = None
    score: float | None = 0.0
    result: list[Any]

    @field_serializer("result")
    def _plain(self, result: list[Any]) -> list[Any]:
        return plain_regions(result)


def _as_prediction(value: Any) -> Any:
    # label-studio-sdk's PredictionValue, or any other object that can say its fields.
    if not isinstance(value, BaseModel | dict) and hasattr(value, "model_dump"):
        return value.model_dump()
    if isinstance(value, BaseModel) and not isinstance(value, PredictionValue):
        return value.model_dump()
    return value


class ModelResponse(BaseModel):
    """One entry per task, in the order of the tasks: a prediction, or a list of several."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str | None = None
    predictions: list[list[PredictionValue] | PredictionValue]

    @field_validator("predictions", mode="before")
    @classmethod
    def _foreign(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [
            [_as_prediction(one) for one in entry] if isinstance(entry, list | tuple) else _as_prediction(entry)
            for entry in value
        ]

    def has_model_version(self) -> bool:
        """True when the response itself names a version."""
        return bool(self.model_version)

    def update_predictions_version(self) -> None:
        """Give the response's version to every prediction that has none."""
        for entry in self.predictions:
            for prediction in entry if isinstance(entry, list) else [entry]:
                prediction.model_version = prediction.model_version or self.model_version

    def set_version(self, version: str) -> None:
        """Set the response's version, and that of every prediction that has none."""
        self.model_version = version
        self.update_predictions_version()
