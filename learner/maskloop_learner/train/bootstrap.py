"""How sure a mean over images is: a bootstrap over groups of images.

Images of one patient are alike, so whole groups are drawn anew, not images. Few groups make percentiles too narrow;
they are taken further out by the factor that Student's t wants (expanded percentile interval, arXiv 1411.5279, 4.3).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

RESAMPLES = 4000
"""The bound's own chance is then a thirtieth of the standard error."""
AT_ONCE = 100_000
"""Groups that are drawn in one go: they stay in the processor's cache."""


def lower_bound(
    differences: Sequence[float] | NDArray[np.floating[Any]],
    groups: Sequence[str],
    *,
    level: float,
    seed: int,
    resamples: int = RESAMPLES,
) -> float | None:
    """The value that the mean of `differences` (one per image) is above with one-sided confidence `level`.

    groups: the group of each image; level: above 0.5 and below 1; the same seed gives the same bound. None for fewer
    than two groups: nothing is known of how groups differ. Raises ValueError for no images, lists of several lengths,
    differences that are not finite and a level out of range.
    """
    if not 0.5 < level < 1:
        raise ValueError(f"level must be above 0.5 and below 1, got {level!r}")
    means, count = group_means(differences, groups, seed=seed, resamples=resamples)
    return None if means is None else float(np.quantile(means, tail(level, count)))


def interval(
    values: Sequence[float] | NDArray[np.floating[Any]],
    groups: Sequence[str],
    *,
    level: float,
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[float, float] | None:
    """The bounds between which the mean of `values` (one per image) is with two-sided confidence `level`.

    Level: above 0 and below 1; otherwise as `lower_bound`.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be above 0 and below 1, got {level!r}")
    means, count = group_means(values, groups, seed=seed, resamples=resamples)
    if means is None:
        return None
    below = tail((1 + level) / 2, count)
    low, high = np.quantile(means, (below, 1 - below))
    return float(low), float(high)


def group_means(
    numbers: Sequence[float] | NDArray[np.floating[Any]], groups: Sequence[str], *, seed: int, resamples: int
) -> tuple[NDArray[np.float64] | None, int]:
    """`resample_means` of images that are given one by one, None for fewer than two groups; the number of groups."""
    values = np.asarray(numbers, dtype=np.float64)
    if values.ndim != 1 or not values.size or values.size != len(groups):
        raise ValueError(f"there must be one group for each image, got {values.shape!r} and {len(groups)}")
    if not np.isfinite(values).all():
        raise ValueError(f"values must be finite, got {values[~np.isfinite(values)][0]!r}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples!r}")
    member = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)[1]
    sizes, sums = np.bincount(member), np.bincount(member, weights=values).astype(np.float64)
    if sizes.size < 2:
        return None, int(sizes.size)
    return resample_means(sums, sizes, seed=seed, resamples=resamples), int(sizes.size)


def resample_means(
    sums: NDArray[np.float64], sizes: NDArray[np.intp], *, seed: int, resamples: int
) -> NDArray[np.float64]:
    """Means over images of `resamples` draws of as many groups as there are: [resamples].

    sums, sizes: [G], of the groups' images.
    """
    rng, count = np.random.default_rng(seed), sizes.size
    found, uneven = [], np.ptp(sizes) > 0
    step = max(1, AT_ONCE // count)
    for start in range(0, resamples, step):
        drawn = rng.integers(0, count, (min(step, resamples - start), count))
        found.append(sums[drawn].sum(axis=1) / (sizes[drawn].sum(axis=1) if uneven else sizes.sum()))
    return np.concatenate(found)


def tail(level: float, groups: int) -> float:
    """The share of resampled means that is left below the bound: 1 - level, and less the fewer groups there are."""
    expanded = np.sqrt(groups / (groups - 1)) * stdtrit(groups - 1, 1 - level)
    return float(ndtr(expanded))
