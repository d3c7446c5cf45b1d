"""Who labels in a simulation: somebody without fault, or with one of three faults that people have.

    perfect               draws the truth
    noisy_boundary:PX     draws an outline that strays from the true one by PX pixels (root mean square)
    missing_small:SHARE   misses lesions smaller than SHARE of the image
    anchored:IOU          leaves the mask that the model has drawn as it is where its IoU with the truth is above IOU

What they draw is learnt from; a model is always measured on the truth. All are seeded by image and label, so that the
same person draws the same mask whichever strategy asks.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from maskloop_learner.train.metrics import iou

Mask = NDArray[np.bool_]
Draw = Callable[[Mask, Mask | None, float, np.random.Generator], Mask]

FARTHEST = 2.0
"""No point of a noisy outline strays farther than this many times its PX."""
WAVE = 4.0
"""Standard deviation of the smoothing, in PX: strays are long waves, as of a hand, not teeth."""
SHORTEST_WAVE = 6.0
"""In pixels."""
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


class OracleError(ValueError):
    """An oracle that does not exist, or cannot be as asked for; the message says what there is."""


@dataclass(frozen=True)
class Kind:
    """An oracle before its level is set."""

    draw: Draw
    level: float
    """Default."""
    highest: float
    help: str


@dataclass(frozen=True)
class Oracle:
    """Somebody who labels."""

    name: str
    level: float

    @classmethod
    def parse(cls, text: str) -> "Oracle":
        """`noisy_boundary` or `noisy_boundary:3`. Raises OracleError naming what there is."""
        name, colon, level = text.strip().partition(":")
        if name not in ORACLES:
            raise OracleError(f"oracle must be one of {', '.join(ORACLES)}, got {name!r}")
        kind = ORACLES[name]
        if not colon:
            return cls(name, kind.level)
        try:
            value = float(level)
        except ValueError:
            value = math.nan
        if name == "perfect" or not 0 <= value <= kind.highest:
            wanted = "takes no level" if name == "perfect" else f"needs a level from 0 to {kind.highest:g}"
            raise OracleError(f"oracle {name} {wanted}, got {level!r}; {kind.help}")
        return cls(name, value)

    @property
    def swayed(self) -> bool:
        """Whether it matters what the model has drawn."""
        return self.name == "anchored"

    def __str__(self) -> str:
        return self.name if self.name == "perfect" else f"{self.name}:{self.level:g}"

    def label(self, truth: Mask, *, shown: Mask | None, image: str, label: str, seed: int) -> Mask:
        """The mask that is drawn: bool [H, W] like `truth`.

        shown: the mask that the model had drawn already, None where there was none. image, label: names, for the
        chance; the same in all rounds. Raises ValueError when `shown` has another shape.
        """
        if shown is not None and shown.shape != truth.shape:
            raise ValueError(f"shown must have the shape of the truth {truth.shape!r}, got {shown.shape!r}")
        digest = hashlib.sha256(f"{image}\n{label}".encode()).digest()
        return ORACLES[self.name].draw(truth, shown, self.level, np.random.default_rng([seed, *digest]))


def jitter(truth: Mask, pixels: float, chance: np.random.Generator) -> Mask:
    """The mask with its outline displaced by a smooth field of `pixels` root mean square down and across, at most twice
    that in all.

    Only what goes across an outline moves it, so the outline strays by about `pixels` root mean square.

    Pixels farther than that from the outline stay, an empty or full mask stays as it is, and a mask that would vanish
    stays too: a shaky hand is not a missed lesion.
    """
    if pixels == 0 or not truth.any() or truth.all():
        return truth.copy()
    wave = max(WAVE * pixels, SHORTEST_WAVE)
    field = np.stack([ndimage.gaussian_filter(chance.standard_normal(truth.shape), wave) for _ in range(2)])
    field *= pixels / math.sqrt(float((field**2).mean()))
    length = np.sqrt((field**2).sum(0))
    field *= np.minimum(1, FARTHEST * pixels / np.maximum(length, 1e-12))
    places = np.indices(truth.shape) + field
    moved = ndimage.map_coordinates(truth.astype(np.float32), places, order=1, mode="nearest") > 0.5
    return moved if moved.any() else truth.copy()


def miss_small(truth: Mask, share: float) -> Mask:
    """The mask without its connected parts (by sides or corners) of fewer than `share` of the image's pixels."""
    parts, count = ndimage.label(truth, structure=_EIGHT_NEIGHBOURS)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    seen = sizes >= share * truth.size
    seen[0] = False
    return np.asarray(seen[parts], dtype=np.bool_)


def accept_shown(truth: Mask, shown: Mask | None, least: float) -> Mask:
    """The mask that was shown where its IoU with the truth is above `least`, else the truth."""
    return shown.copy() if shown is not None and iou(shown, truth) > least else truth.copy()


ORACLES: dict[str, Kind] = {
    "perfect": Kind(lambda truth, shown, level, chance: truth.copy(), 0, 0, "draws the truth"),
    "noisy_boundary": Kind(
        lambda truth, shown, level, chance: jitter(truth, level, chance),
        3,
        100,
        "the level is by how many pixels the outline strays (root mean square)",
    ),
    "missing_small": Kind(
        lambda truth, shown, level, chance: miss_small(truth, level),
        0.01,
        1,
        "the level is the share of the image below which a lesion is missed",
    ),
    "anchored": Kind(
        lambda truth, shown, level, chance: accept_shown(truth, shown, level),
        0.7,
        1,
        "the level is the IoU above which the model's mask is left as it is",
    ),
}
