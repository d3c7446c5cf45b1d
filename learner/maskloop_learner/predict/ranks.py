"""How well one list of numbers orders another: Spearman, AUROC and the area under the risk-coverage curve.

Ties are never broken by where an item stands: ranks are midranks, and areas are expected over all orders of the
tied. So the order in which images or pixels come changes nothing.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Numbers = Sequence[float] | NDArray[np.floating]


def spearman(a: Numbers, b: Numbers) -> float | None:
    """Rank correlation of two lists of one length, -1..1; None for fewer than 3 items or a constant list.

    Raises ValueError for lists of two lengths and for what is not finite.
    """
    x, y = finite("the first list", a), finite("the second list", b, size=len(a))
    if len(x) < 3 or x.min() == x.max() or y.min() == y.max():
        return None
    x_ranks, y_ranks = (rankdata(v) - (len(v) + 1) / 2 for v in (x, y))
    # The root of the product, not the product of roots: equal rankings give exactly 1.
    rho = float(x_ranks @ y_ranks) / float(np.sqrt((x_ranks @ x_ranks) * (y_ranks @ y_ranks)))
    return min(max(rho, -1.0), 1.0)


def error_auroc(uncertainty: Numbers, error: NDArray[np.bool_]) -> float | None:
    """Chance that a wrong item is more uncertain than a right one, ties counting half: 0..1, 0.5 is no use.

    uncertainty [N] finite, error bool [N]. None where nothing or everything is wrong: there is no pair to compare.
    The Mann-Whitney form of the area under the ROC curve. Raises ValueError for other shapes, types or NaN.
    """
    u = finite("uncertainty", uncertainty)
    if error.shape != u.shape or error.dtype != np.bool_:
        raise ValueError(f"error must be bool {u.shape!r} like uncertainty, got {error.dtype} {error.shape!r}")
    wrong = int(error.sum())
    right = u.size - wrong
    if not wrong or not right:
        return None
    return (float(rankdata(u)[error].sum()) - wrong * (wrong + 1) / 2) / (wrong * right)


def risk_coverage(uncertainty: Numbers, risk: Numbers) -> float:
    """AURC: mean over k = 1..n of the mean risk of the k least uncertain images. Lower is better.

    uncertainty and risk [n], finite, n >= 1; risk is 1 - Dice, say, and the result has its range and unit. Over
    tied uncertainties it is the expected value of all their orders. Raises ValueError for anything else.
    Source: arXiv 1805.08206, section 2.
    """
    u = finite("uncertainty", uncertainty)
    r = finite("risk", risk, size=u.size)
    if not u.size:
        raise ValueError("a risk-coverage curve needs at least one image, got none")
    order = np.argsort(u, kind="stable")
    # A sum over the first k is linear in the risks: its expectation is that of the ties' mean risk.
    return float((tie_means(u, r)[order].cumsum() / np.arange(1, u.size + 1)).mean())


def excess_aurc(uncertainty: Numbers, risk: Numbers) -> float:
    """E-AURC: AURC less that of the best order, which is by risk itself; 0 or more (arXiv 1805.08206)."""
    return max(risk_coverage(uncertainty, risk) - risk_coverage(risk, risk), 0.0)


def tie_means(keys: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each item the mean value of all that share its key. All [n]."""
    _, group = np.unique(keys, return_inverse=True)
    means: NDArray[np.float64] = np.bincount(group, weights=values)[group] / np.bincount(group)[group]
    return means


def finite(name: str, values: Numbers, *, size: int | None = None) -> NDArray[np.float64]:
    """The numbers as a flat array. Raises ValueError, by name, for more dimensions, another size, NaN or infinity."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or size not in (None, array.size):
        wanted = "" if size is None else f" of {size} numbers"
        raise ValueError(f"{name} must be a flat list{wanted}, got shape {array.shape!r}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {float(array[~np.isfinite(array)][0])!r}")
    return array
