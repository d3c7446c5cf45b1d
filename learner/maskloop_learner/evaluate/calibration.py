"""What calibration is judged by: maps of a share of the images, small enough for all to fit into memory."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.evaluate.run import Look

IMAGES = 2000
"""At most; at 180 kB each."""
SIDE = 128
"""Longer side of a kept map in pixels, about that of what the models give out."""


@dataclass
class CalibrationSample:
    """Maps and figures of one label, in the images' order, as `report_calibration` takes them."""

    probability: list[NDArray[np.float32]] = field(default_factory=list)
    uncertainty: list[NDArray[np.float32]] = field(default_factory=list)
    truth: list[NDArray[np.bool_]] = field(default_factory=list)
    image_uncertainty: list[float] = field(default_factory=list)
    dice: list[float] = field(default_factory=list)

    def add(self, look: Look) -> None:
        """Take in one image. Raises ValueError when the prediction's maps were not kept."""
        if look.found.maps is None:
            raise ValueError(f"{look.case.name}: its maps were not kept; predict with keep_maps=True")
        # Single pixels, not means of several: averaging would change how sure the model seems.
        grid = np.ix_(*(pick_lines(side, max(look.truth.shape)) for side in look.truth.shape))
        self.probability.append(look.found.maps.probability[grid])
        self.uncertainty.append(look.found.maps.predictive_entropy[grid])
        self.truth.append(look.truth[grid])
        self.image_uncertainty.append(look.result.uncertainties["predictive_entropy"])
        self.dice.append(look.result.dice)


def pick_lines(count: int, longest: int) -> NDArray[np.intp]:
    """Which of `count` rows or columns are kept when the longer side has `longest`: evenly spaced, in order."""
    kept = count if longest <= SIDE else max(1, round(count * SIDE / longest))
    return np.arange(kept) * count // kept


def is_sampled(place: int, total: int) -> bool:
    """Whether the image at `place` (from 0) of `total` is among the IMAGES evenly spaced ones."""
    return total <= IMAGES or (place * IMAGES) // total != ((place - 1) * IMAGES) // total
