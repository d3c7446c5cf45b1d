"""Predictions made by hand, where a test is about what becomes of them and not about the model."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.evaluate.run import Case, Look, Mask, make_result


@dataclass(frozen=True)
class DrawnMaps:
    """Pixel maps [H, W]."""

    probability: NDArray[np.float32]
    predictive_entropy: NDArray[np.float32]


@dataclass(frozen=True)
class Drawn:
    """A prediction as a predictor gives it."""

    mask: Mask
    probability: float
    predictive_entropy: float
    maps: DrawnMaps | None
    expected_entropy: float = 0.0
    mutual_information: float = 0.0
    variance: float = 0.0
    aggregates: dict[str, dict[str, float]] = field(default_factory=dict)


def square(size: tuple[int, int], top: int, left: int, side: int) -> Mask:
    """A mask of `size` with one square in it."""
    mask = np.zeros(size, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def make_look(
    *,
    found: Mask,
    truth: Mask,
    name: str = "a.png",
    label: str = "tumor",
    entropy: float | NDArray[np.float32] = 0.25,
    prompt: str = "a tumor",
    aggregates: dict[str, dict[str, float]] | None = None,
) -> Look:
    """A look at an image of a grey ramp; `entropy` is a map, or one value for all pixels."""
    height, width = truth.shape
    ramp = np.broadcast_to(np.linspace(0, 255, width)[None, :, None], (height, width, 3)).astype(np.uint8)
    unsure = np.broadcast_to(np.float32(entropy), truth.shape).astype(np.float32)
    maps = DrawnMaps(np.where(found, np.float32(0.9), np.float32(0.1)), unsure)
    drawn = Drawn(found, 0.9, float(unsure.mean()), maps, aggregates=aggregates or {})
    case = Case(name, ramp, {label: truth}, {label: prompt})
    return Look(case, drawn, truth, make_result(case, label, drawn, truth))
