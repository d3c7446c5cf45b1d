"""Two functions in place of a class: `@predict_fn` and `@update_fn` serve the base class itself."""

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

_functions: dict[str, Callable[..., Any]] = {}


def predict_fn(function: Function) -> Function:
    """Register `function(tasks, context, helper=model, **kwargs)` as what `predict` does; the last one counts."""
    _functions["predict"] = function
    return function


def update_fn(function: Function) -> Function:
    """Register `function(event, data, helper=model, **kwargs)` as what `fit` does; the last one counts."""
    _functions["fit"] = function
    return function


def registered(name: str) -> Callable[..., Any] | None:
    """What was registered for `predict` or `fit`, or None."""
    return _functions.get(name)
