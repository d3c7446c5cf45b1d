"""From what a subclass returns to what Label Studio takes: counted, finite, plain JSON, or a clear error."""

import json
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from maskloop_backend.ml_base.responses import plain_regions

LISTS = (list, tuple)


class PredictionError(ValueError):
    """A subclass returned what cannot be sent to Label Studio; the message names the class and the place."""


def encode_results(response: Any, tasks: list[Any], *, name: str, version: str | None) -> list[bytes]:
    """One JSON text per task out of what the class `name` returned; `version` fills in for predictions without one.

    None, or no entries at all, mean "nothing to predict" and give an empty list. Raises PredictionError.
    """
    entries, own_version = _entries(response, name)
    if not entries:
        return []
    if len(entries) != len(tasks):
        raise PredictionError(
            f"{name}.predict returned {len(entries)} predictions for {len(tasks)} tasks; "
            "return one per task, in the same order (an empty list for a task without one)"
        )
    return [
        _encode(entry, name=name, place=_place(number, task), version=own_version or version)
        for number, (entry, task) in enumerate(zip(entries, tasks, strict=True))
    ]


def _entries(response: Any, name: str) -> tuple[list[Any], str | None]:
    """The entries of a response, and the version that the response itself names."""
    if response is None:
        return [], None
    if isinstance(response, LISTS):
        return list(response), None
    version = None
    if not isinstance(response, Mapping) and isinstance(getattr(response, "predictions", None), LISTS):
        return list(response.predictions), _text(getattr(response, "model_version", None))
    if not isinstance(response, Mapping) and hasattr(response, "model_dump"):
        response = response.model_dump()
    if isinstance(response, Mapping) and isinstance(response.get("predictions"), LISTS):
        version = _text(response.get("model_version"))
        return list(response["predictions"]), version
    raise PredictionError(
        f"{name}.predict returned {type(response).__name__} {str(response)[:80]!r}; "
        "return a list with one prediction per task, or a ModelResponse"
    )


def _encode(entry: Any, *, name: str, place: str, version: str | None) -> bytes:
    if isinstance(entry, LISTS):
        value: Any = [_prediction(one, name=name, place=place, version=version) for one in entry]
    elif entry is None or entry == {}:
        value = []  # Label Studio takes an empty list for "no prediction of this task"
    else:
        value = _prediction(entry, name=name, place=place, version=version)
    try:
        return json.dumps(value, allow_nan=False, default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = "a number is not finite" if "float" in str(error) else str(error)
        raise PredictionError(f"{name}.predict: {place}: cannot be sent as JSON: {reason}") from error


def _prediction(value: Any, *, name: str, place: str, version: str | None) -> dict[str, Any]:
    """One prediction with a checked score and a version."""
    fields = value.model_dump() if hasattr(value, "model_dump") else value
    if not isinstance(fields, Mapping):
        raise PredictionError(f"{name}.predict: {place}: a prediction is a dict, got {fields!r:.80}")
    result = fields.get("result")
    if not isinstance(result, LISTS):
        raise PredictionError(
            f"{name}.predict: {place}: a prediction needs `result`, a list of regions, got {result!r:.80}"
        )
    checked: dict[str, Any] = {**fields, "result": plain_regions(result)}
    if "score" in fields:
        checked["score"] = _score(fields["score"], f"{name}.predict: {place}")
    checked["model_version"] = _text(fields.get("model_version")) or version
    return checked


def _score(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()  # a number of numpy or torch
    if isinstance(value, bool) or not isinstance(value, Real):
        raise PredictionError(f"{where}: `score` must be a number or None, got {value!r}")
    if not math.isfinite(value):
        raise PredictionError(f"{where}: `score` is {value!r}; it must be finite: Label Studio orders tasks by it")
    return float(value)


def _plain(value: Any) -> Any:
    """JSON for numpy's numbers and arrays, pydantic's and label-studio-sdk's objects."""
    for method in ("tolist", "model_dump", "_dict"):
        if hasattr(value, method) and not isinstance(value, type):
            return getattr(value, method)()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _text(value: Any) -> str | None:
    return str(value) if value is not None and value != "" else None


def _place(number: int, task: Any) -> str:
    known = task.get("id") if isinstance(task, Mapping) else None
    return f"task {known}" if known is not None else f"task number {number + 1}"
