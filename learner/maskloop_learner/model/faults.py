"""What keeps stored tensors from becoming a model's parameters, as a list that a person can read."""

from collections.abc import Mapping

from torch import Tensor

SHOWN = 5


def list_faults(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Missing, unknown, mis-shaped, mis-typed and non-finite tensors, one text each; empty when all fit."""
    faults = [f"missing {name}" for name in sorted(wanted.keys() - found.keys())]
    faults += [f"unknown {name}" for name in sorted(found.keys() - wanted.keys())]
    return faults + [
        fault for name in sorted(wanted.keys() & found.keys()) if (fault := find_fault(name, found[name], wanted[name]))
    ]


def find_fault(name: str, found: Tensor, wanted: Tensor) -> str | None:
    """Why a stored tensor cannot become the parameter; None if it can."""
    if found.shape != wanted.shape:
        return f"{name} has shape {tuple(found.shape)}, not {tuple(wanted.shape)}"
    if not found.is_floating_point():
        return f"{name} has type {found.dtype}, not a floating point type"
    if not bool(found.isfinite().all()):
        return f"{name} has values that are not finite"
    return None


def say_faults(faults: list[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return f"{'; '.join(faults[:SHOWN])}{more}"
