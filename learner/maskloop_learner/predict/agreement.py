"""How few samples rank images as well as all of them do: the cheapest way whose order is as good as a repetition.

Two independent runs of S = 30 do not agree wholly: their Spearman is the ceiling. A candidate that comes that near
to the first run tells the order as well as the second run does, at less cost. It must have noise of its own:
samples that the reference shares would make it look better than it is. A choice holds for one model only, and
scores of two methods or numbers of samples are never mixed in one ranking.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from maskloop_learner.predict.ranks import spearman

MEAN_VALUE = "mean-value"
"""One pass with every value at its mean."""
ANTITHETIC = "antithetic"
"""Pairs of samples with noise eps and -eps."""
MONTE_CARLO = "monte-carlo"
"""Independent samples."""

MIN_IMAGES = 10
MIN_CEILING = 0.7
"""Below, two full runs share less than half of their ranks' variance: samples are too few rather than too many."""
MIN_SHARE = 0.98
"""Of the ceiling, whatever the tolerance."""


@dataclass(frozen=True)
class SamplingChoice:
    """With how many samples of which kind to rank, and the evidence."""

    method: str
    samples: int
    spearman: float | None
    """Of the choice with the reference; the ceiling itself where all samples are kept; None where it has no value."""
    ceiling: float | None
    """Spearman of the two full runs; None where it has no value."""
    images: int
    tried: dict[str, float]
    """Spearman of every candidate that was computed; 0 for one that gives all images one score."""
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def choose_sampling(
    candidates: Mapping[str, Callable[[], Sequence[float]]],
    *,
    reference: Sequence[float],
    second: Sequence[float],
    samples: int = 30,
    tolerance: float = 0.01,
) -> SamplingChoice:
    """The first candidate whose order of the images is as near to the reference's as `second` is, or all samples.

    candidates: "method/samples" ("mean-value/1", "antithetic/2", "monte-carlo/4") -> a function that gives one score
    per image, cheapest first; none after the chosen one is called. reference, second: scores of the same images by
    `samples` Monte-Carlo samples each, with independent noise. A candidate passes with Spearman >= ceiling -
    tolerance and >= 0.98 ceiling. All samples are kept with fewer than 10 images, for constant scores and for a
    ceiling below 0.7. Raises ValueError for names, lengths, scores or a tolerance that make no sense.
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be in 0..1, got {tolerance!r}")
    names = {name: parse_sampling(name) for name in candidates}
    parse_sampling(f"{MONTE_CARLO}/{samples}")
    images, tried = len(reference), dict[str, float]()
    ceiling = spearman(reference, second)

    def keep_all(reason: str) -> SamplingChoice:
        return SamplingChoice(MONTE_CARLO, samples, ceiling, ceiling, images, tried, reason)

    if images < MIN_IMAGES:
        return keep_all(f"{images} images are too few to compare orders: at least {MIN_IMAGES} are needed")
    if ceiling is None:
        return keep_all("all images have one score: there is no order to keep")
    if ceiling < MIN_CEILING:
        return keep_all(
            f"two runs of {samples} samples agree with Spearman {ceiling:.3f} only, below {MIN_CEILING}: "
            "fewer samples would tell even less"
        )
    wanted = max(ceiling - tolerance, MIN_SHARE * ceiling)
    for name, (method, count) in names.items():
        scores = candidates[name]()
        if len(scores) != images:
            raise ValueError(f"{name} must give one score per image, {images}, got {len(scores)}")
        tried[name] = rho = spearman(scores, reference) or 0.0
        if rho >= wanted:
            reason = f"orders {images} images as {samples} samples do: Spearman {rho:.4f}, needed {wanted:.4f}"
            return SamplingChoice(method, count, rho, ceiling, images, tried, reason)
    return keep_all(f"no cheaper way of {len(tried)} reaches Spearman {wanted:.4f} with {samples} samples")


def parse_sampling(name: str) -> tuple[str, int]:
    """Method and number of samples of "method/samples". Raises ValueError for what cannot be drawn."""
    method, _, digits = name.partition("/")
    count = int(digits) if digits.isascii() and digits.isdigit() else 0
    possible = {MEAN_VALUE: count == 1, ANTITHETIC: count > 0 and count % 2 == 0, MONTE_CARLO: count > 0}
    if not possible.get(method, False):
        raise ValueError(
            f"a way to sample is {MEAN_VALUE}/1, {ANTITHETIC}/N with an even N or {MONTE_CARLO}/N, got {name!r}"
        )
    return method, count
