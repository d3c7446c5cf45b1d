"""Grey values of any range become 0..255: by a window, or by the range between two percentiles."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
SAMPLE = 4_000_000
"""Of more values than this, percentiles are those of as many drawn from them."""
FRAMES = 32
"""Of more frames than this, percentiles are those of as many."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which values lie between black and white, and how (DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3).

    Raises ValueError when the width is too small for the function.
    """

    centre: float
    width: float
    function: Function = "LINEAR_EXACT"
    source: Literal["file", "option"] = "option"
    alternatives: int = 1
    """Windows that the file holds; the first is taken."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.centre) and math.isfinite(self.width)):
            raise ValueError(f"the window {self.centre}, {self.width} is not finite")
        if self.width <= 0 or (self.function == "LINEAR" and self.width < 1):
            raise ValueError(f"the window's width {self.width} is too small for {self.function}")

    def apply(self, values: Values) -> Values:
        """Shares 0..1 of white, same shape; not-a-number stays what it is."""
        if self.function == "SIGMOID":
            # Beyond this the share is 0 or 1 to the last bit, and exp would overflow.
            return 1 / (1 + np.exp(np.clip(-4 * (values - self.centre) / self.width, -700, 700)))
        half = 0.5 if self.function == "LINEAR" else 0.0
        centre, width = self.centre - half, self.width - 2 * half
        if width == 0:
            return np.where(np.isnan(values), np.nan, (values > centre).astype(np.float64))
        return np.clip((values - centre) / width + 0.5, 0, 1)

    def as_json(self) -> dict[str, Any]:
        """For an origin."""
        shown = {"centre": self.centre, "width": self.width, "function": self.function}
        return {**shown, "source": self.source, "alternatives": self.alternatives}


@dataclass(frozen=True)
class Range:
    """low is black, high is white; both the same: everything is black."""

    low: float
    high: float

    def apply(self, values: Values) -> Values:
        """Shares 0..1 of white, same shape; not-a-number stays what it is."""
        if self.high <= self.low:
            return np.where(np.isnan(values), np.nan, 0.0)
        # Halves, because the difference of two large numbers may not be one any more.
        return np.clip((values / 2 - self.low / 2) / (self.high / 2 - self.low / 2), 0, 1)


Shown = Window | Range
"""How grey values become shares of white."""


def describe(shown: Shown | None, *, by: str = "percentiles") -> dict[str, Any]:
    """For an origin: how grey values were shown; by: where a range comes from; None: not grey, or shown as it is."""
    if isinstance(shown, Window):
        return {"shown_by": "window", "window": shown.as_json(), "range": None}
    if isinstance(shown, Range):
        return {"shown_by": by, "window": None, "range": [shown.low, shown.high]}
    return {"shown_by": "colours", "window": None, "range": None}


def find_range(values: Values, percentiles: tuple[float, float]) -> Range:
    """The range between two percentiles of the finite values, any shape.

    Where both are the same number, as in a volume that is nearly all air: from the least to the greatest value.
    Without a finite value: 0..0.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Range(0.0, 0.0)
    low, high = (float(value) for value in np.percentile(finite, percentiles, method="nearest"))
    return Range(low, high) if low < high else Range(float(finite.min()), float(finite.max()))


def draw_sample(values: NDArray[Any], size: int = SAMPLE) -> NDArray[Any]:
    """All values, flat, or `size` of them drawn with a fixed seed when there are more."""
    if values.size <= size:
        return values.reshape(-1)
    drawn = np.sort(np.random.default_rng(0).integers(0, values.size, size))
    return np.asarray(values[np.unravel_index(drawn, values.shape, order="F")])


def spread(numbers: range) -> list[int]:
    """At most 32 of them, evenly spread: the frames that percentiles look at."""
    chosen = np.linspace(0, len(numbers) - 1, min(len(numbers), FRAMES)).round().astype(int)
    return [numbers[int(place)] for place in chosen]


def to_bytes(shares: Values) -> NDArray[np.uint8]:
    """0..1 to 0..255, rounded; not-a-number is black."""
    return np.rint(255 * np.nan_to_num(shares, nan=0.0)).astype(np.uint8)
