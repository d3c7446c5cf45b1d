"""Finds the class that `maskloop serve` is told to serve."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from maskloop_backend.ml_base.base import LabelStudioMLBase


class LoadError(RuntimeError):
    """The class cannot be found or is not one that can be served; the message says what to do."""


def load_class(target: str) -> type[LabelStudioMLBase]:
    """The class of "package.module:Class", "path/model.py:Class", or of a module with exactly one subclass.

    The module is looked for in the working folder too; one given as a path, in its own folder. Raises LoadError.
    """
    place, _, name = target.partition(":")
    module = _import(place)
    found = getattr(module, name, None) if name else _only_class(module, target)
    if found is None:
        raise LoadError(f"{place} has no class {name!r}; it has: {', '.join(_classes(module)) or 'none'}")
    if not (isinstance(found, type) and issubclass(found, LabelStudioMLBase)):
        raise LoadError(
            f"{target} is no subclass of maskloop_backend.ml_base.LabelStudioMLBase; change its import line to "
            "`from maskloop_backend.ml_base import LabelStudioMLBase`"
        )
    return found


def _import(place: str) -> ModuleType:
    path = Path(place)
    is_file = place.endswith(".py")
    if is_file and not path.is_file():
        raise LoadError(f"there is no file {place!r}")
    folder = str(path.resolve().parent) if is_file else str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = path.stem if is_file else place
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise LoadError(f"there is no module {place!r}; give MODULE:CLASS or path/to/model.py:CLASS") from error
        raise


def _classes(module: ModuleType) -> list[str]:
    return sorted(
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, LabelStudioMLBase) and value is not LabelStudioMLBase
    )


def _only_class(module: ModuleType, target: str) -> type[LabelStudioMLBase]:
    names = [name for name in _classes(module) if getattr(module, name).__module__ == module.__name__]
    if len(names) != 1:
        shown = ", ".join(names) or "none"
        raise LoadError(f"{target} must have one subclass of LabelStudioMLBase, it has {shown}; give {target}:CLASS")
    found: type[LabelStudioMLBase] = getattr(module, names[0])
    return found
