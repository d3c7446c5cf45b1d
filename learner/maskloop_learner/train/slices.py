"""Champion and challenger on parts of the validation set: per label, size, source, and where nothing is to be found."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np

Kind = Literal["label", "size", "source", "empty"]
SIZES = ("small", "medium", "large")
ROUNDING = 1e-9
"""A loss of exactly the margin passes, whatever the last bits say."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One label on one validation image, as both models drew it. Raises ValueError for a value out of range."""

    image: str
    """Digest of the image."""
    group: str
    """What the image belongs to, for instance a patient; images of one group are not independent."""
    label: str
    area: float
    """Share of the image that the truth covers, 0..1; 0: the label is not there."""
    champion: float
    """Dice, 0..1."""
    challenger: float
    source: str = ""
    """Site or scanner; "" where that is not known."""

    def __post_init__(self) -> None:
        for name, value in ("area", self.area), ("champion", self.champion), ("challenger", self.challenger):
            if not isfinite(value) or not 0 <= value <= 1:
                what = "area" if name == "area" else f"the {name}'s Dice"
                raise ValueError(f"{what} of {self.label!r} on image {self.image[:12]} must be in 0..1, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Both models on a part of the validation set: means over images of means over labels."""

    kind: Kind
    name: str
    images: int
    champion: float
    challenger: float
    counted: bool
    """Whether there are images enough for it to decide; else it is reported only."""
    passed: bool
    """False: it counts, and the challenger is worse by more than the margin."""

    @property
    def difference(self) -> float:
        """Dice of the challenger less that of the champion, -1..1."""
        return self.challenger - self.champion


def cut_slices(cases: Sequence[Case], *, margin: float, least: int) -> list[Slice]:
    """All slices that have an image, those that count and fail marked.

    margin: Dice (0..1) by which a slice may be worse; least: images with which a slice counts. Sizes are thirds of
    each label's own areas, so that a label of small things is not a slice by itself.
    """
    parts: dict[tuple[Kind, str], list[Case]] = {}
    for label in sorted({case.label for case in cases}):
        parts["label", label] = [case for case in cases if case.label == label]
    sizes = size_thirds(cases)
    for name in SIZES:
        parts["size", name] = [case for case, size in zip(cases, sizes, strict=True) if size == name]
    for source in sorted({case.source for case in cases} - {""}):
        parts["source", source] = [case for case in cases if case.source == source]
    parts["empty", "nothing there"] = [case for case in cases if not case.area]
    return [weigh(kind, name, part, margin=margin, least=least) for (kind, name), part in parts.items() if part]


def size_thirds(cases: Sequence[Case]) -> list[str]:
    """Of each case small, medium or large among its label's cases that are not empty; "" for an empty one."""
    bounds = {}
    for label in {case.label for case in cases}:
        areas = [case.area for case in cases if case.label == label and case.area]
        bounds[label] = np.quantile(areas, (1 / 3, 2 / 3)) if areas else (0.0, 0.0)
    return [SIZES[int(np.searchsorted(bounds[case.label], case.area))] if case.area else "" for case in cases]


def weigh(kind: Kind, name: str, cases: Sequence[Case], *, margin: float, least: int) -> Slice:
    """The slice of these cases, of which there must be one."""
    champion, challenger, images = *image_means(cases), len({case.image for case in cases})
    counted = images >= least
    passed = not counted or challenger - champion >= -margin - ROUNDING
    return Slice(
        kind=kind,
        name=name,
        images=images,
        champion=champion,
        challenger=challenger,
        counted=counted,
        passed=passed,
    )


def image_means(cases: Sequence[Case]) -> tuple[float, float]:
    """Dice of champion and challenger: means over images of means over each image's labels."""
    images = by_image(cases)
    champion = sum(sum(case.champion for case in each) / len(each) for each in images)
    challenger = sum(sum(case.challenger for case in each) / len(each) for each in images)
    return champion / len(images), challenger / len(images)


def by_image(cases: Iterable[Case]) -> list[list[Case]]:
    """The cases of each image, images in the order of their first case."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.image, []).append(case)
    return list(found.values())
