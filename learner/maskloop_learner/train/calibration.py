"""Whether probabilities mean what they say, and whether uncertainty points at what is wrong.

    temperature   one number T that the logits are divided by, fitted on validation images (arXiv 1706.04599)
    ECE           how far stated probabilities are from observed frequencies, in bins of equally many pixels
    error AUROC   whether wrong pixels are more uncertain than right ones
    AURC          whether uncertain images are the bad ones: area under the risk-coverage curve; risk = 1 - Dice

Pixels are those in a band around the truth: sure and right background, most of an image, would make any model look
calibrated. T is monotone on a probability, yet it does change the order of images by entropy.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, logsumexp

from maskloop_learner.predict.aggregate import band_radius, dilate
from maskloop_learner.predict.ranks import error_auroc, excess_aurc, risk_coverage, spearman

__all__ = [
    "Band",
    "CalibrationError",
    "CalibrationReport",
    "band_mask",
    "band_pixels",
    "error_auroc",
    "excess_aurc",
    "expected_calibration_error",
    "fit_temperature",
    "reliability",
    "report_bands",
    "report_calibration",
    "risk_coverage",
    "spearman",
    "take_band",
]

Map = NDArray[np.floating]
Mask = NDArray[np.bool_]

TEMPERATURES = (0.05, 20.0)
GRID = 13
"""Of log T: with several samples the likelihood may have more than one valley."""


class CalibrationError(ValueError):
    """Data that no finite temperature fits best; the message says why."""


def fit_temperature(logits: Map, truth: Mask) -> float:
    """The T in 0.05..20 that minimises the negative log likelihood of mean_s sigmoid(logits / T).

    logits: [S, N] finite, S samples of N pixels; truth: bool [N]. T > 1 makes predictions less sure. Raises
    CalibrationError where likelihood has no finite optimum in that range (truth of one class, truth that the logits
    separate perfectly or have nothing to do with) and ValueError for other shapes, types or values.
    """
    if logits.ndim != 2 or not logits.size or truth.shape != logits.shape[1:] or truth.dtype != np.bool_:
        raise ValueError(
            f"logits must be S x N and truth bool N, got {logits.shape!r} and {truth.dtype} {truth.shape!r}"
        )
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite, got NaN or infinity")
    if truth.all() or not truth.any():
        raise CalibrationError(f"all {truth.size} pixels are {bool(truth[0])}: a temperature needs both classes")
    towards_truth = np.where(truth, logits, -logits).astype(np.float64)

    def loss(log_t: float) -> float:
        return -float(log_mean_sigmoid(towards_truth / math.exp(log_t)).mean())

    grid = np.linspace(math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1]), GRID)
    losses = [loss(log_t) for log_t in grid]
    best = int(np.argmin(losses))
    around = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    found = minimize_scalar(loss, bounds=around, method="bounded", options={"xatol": 1e-5})
    if min(losses[0], losses[-1]) <= found.fun:
        raise CalibrationError(
            f"no temperature inside {TEMPERATURES[0]}..{TEMPERATURES[1]} fits better than its ends: "
            "the logits separate the truth perfectly or have nothing to do with it; use more images"
        )
    return math.exp(float(found.x))


def log_mean_sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(mean over s of sigmoid(x_s)) of [S, N] -> [N], finite also where every sigmoid underflows."""
    mean = expit(x).mean(axis=0)
    lost = mean < 1e-300
    logs: NDArray[np.float64] = np.log(np.where(lost, 1, mean))
    # Logarithms throughout are exact everywhere, but several times slower.
    logs[lost] = logsumexp(log_expit(x[:, lost]), axis=0) - math.log(len(x))
    return logs


def band_mask(truth: Mask, radius: int) -> Mask:
    """The truth and all pixels at most `radius` rows and columns away: bool [H, W]; all of an image without truth."""
    return dilate(truth, radius) if truth.any() else np.ones_like(truth)


def band_pixels(truth: Mask, *, radius: int | None = None, limit: int | None = None) -> NDArray[np.intp]:
    """Flat indices, ascending, of the band; if more than `limit`, that many of them, evenly spaced.

    radius: pixels, None: a 32nd of the shorter side. No chance is involved. Raises ValueError for limit < 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 pixel, got {limit!r}")
    pixels: NDArray[np.intp] = np.flatnonzero(band_mask(truth, band_radius(truth.shape) if radius is None else radius))
    if limit is None or pixels.size <= limit:
        return pixels
    every: NDArray[np.intp] = pixels[np.arange(limit) * pixels.size // limit]
    return every


def expected_calibration_error(probability: Map, truth: Mask, bins: int = 15) -> float:
    """ECE of foreground probabilities: mean over equal-mass bins of |mean probability - share of foreground|, 0..1.

    probability in 0..1 and truth bool, of one shape. Bins hold equally many pixels, give or take one, since most
    pixels are near 0 or 1 and bins of equal width would be empty. Equal probabilities have one frequency, so a bin's
    edge among them does not depend on their order. Raises ValueError for other shapes, types or values.
    """
    values, frequency = calibration_pairs(probability, truth, bins)
    gaps = np.array_split(values - frequency, bins)
    return sum(abs(float(part.sum())) for part in gaps) / truth.size


def reliability(probability: Map, truth: Mask, bins: int = 15) -> list[tuple[float, float, int]]:
    """(mean probability, share of foreground, pixels) of each of the bins of `expected_calibration_error`.

    The least probable bin first; without the empty ones, where there are fewer pixels than bins. Raises as it does.
    """
    pairs = [np.array_split(each, bins) for each in calibration_pairs(probability, truth, bins)]
    return [(float(p.mean()), float(f.mean()), int(p.size)) for p, f in zip(*pairs, strict=True) if p.size]


def calibration_pairs(probability: Map, truth: Mask, bins: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of every pixel its probability, ascending, and the share of foreground among those of the same probability."""
    if probability.shape != truth.shape or truth.dtype != np.bool_ or not truth.size:
        raise ValueError(f"truth must be bool {probability.shape!r}, not empty, got {truth.dtype} {truth.shape!r}")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins!r}")
    if not bool(((probability >= 0) & (probability <= 1)).all()):  # NaN fails too
        raise ValueError("probability must be in 0..1, got others or NaN")
    values, group = np.unique(probability.ravel().astype(np.float64), return_inverse=True)
    frequency = np.bincount(group, weights=truth.ravel()) / np.bincount(group)
    order = np.sort(group)
    return values[order], frequency[order]


@dataclass(frozen=True)
class CalibrationReport:
    """Figures of one model on validation images. Lower is better but of `error_auroc` and `spearman`."""

    temperature: float
    """With which the maps were made."""
    ece: float
    error_auroc: float | None
    """None where no pixel or every pixel of the bands is wrong."""
    aurc: float
    excess_aurc: float
    spearman: float | None
    """Of image uncertainty with 1 - Dice; None for fewer than 3 images or constant values."""
    images: int
    pixels: int

    def to_dict(self) -> dict[str, float | None]:
        """As plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Band:
    """One image's pixels around the truth, all that its calibration needs: [N] each."""

    probability: Map
    uncertainty: Map
    truth: Mask


def take_band(
    probability: Map, uncertainty: Map, truth: Mask, *, radius: int | None = None, limit: int | None = 10_000
) -> Band:
    """The band of maps [H, W], all of one shape; radius and limit: see `band_pixels`."""
    pixels = band_pixels(truth, radius=radius, limit=limit)
    return Band(probability.ravel()[pixels], uncertainty.ravel()[pixels], truth.ravel()[pixels])


def report_calibration(
    *,
    probability: Sequence[Map],
    uncertainty: Sequence[Map],
    truth: Sequence[Mask],
    image_uncertainty: Sequence[float],
    dice: Sequence[float],
    temperature: float = 1.0,
    threshold: float = 0.5,
    radius: int | None = None,
    limit: int | None = 10_000,
) -> CalibrationReport:
    """All figures, over the images in their order: maps [H, W] each, one uncertainty and one Dice (0..1) per image.

    A pixel is wrong where probability > threshold is not the truth. radius and limit (per image): see `band_pixels`.
    Raises ValueError without images, for lists of several lengths, maps of several shapes, and values out of range.
    """
    lengths = {len(x) for x in (probability, uncertainty, truth, image_uncertainty, dice)}
    if len(lengths) != 1 or not truth:
        raise ValueError(f"lists must hold one item per image and at least one, got lengths {sorted(lengths)}")
    bands = []
    for k, (p, u, t) in enumerate(zip(probability, uncertainty, truth, strict=True)):
        if not p.shape == u.shape == t.shape:
            raise ValueError(f"maps of image {k} must have one shape, got {p.shape!r}, {u.shape!r}, {t.shape!r}")
        bands.append(take_band(p, u, t, radius=radius, limit=limit))
    return report_bands(
        bands, image_uncertainty=image_uncertainty, dice=dice, temperature=temperature, threshold=threshold
    )


def report_bands(
    bands: Sequence[Band],
    *,
    image_uncertainty: Sequence[float],
    dice: Sequence[float],
    temperature: float = 1.0,
    threshold: float = 0.5,
) -> CalibrationReport:
    """The same of images of which only the bands are left."""
    if any(not 0 <= d <= 1 for d in dice):
        raise ValueError(f"dice must be in 0..1, got {next(d for d in dice if not 0 <= d <= 1)!r}")
    p = np.concatenate([band.probability for band in bands])
    u = np.concatenate([band.uncertainty for band in bands])
    t = np.concatenate([band.truth for band in bands])
    risk = [1 - d for d in dice]
    return CalibrationReport(
        temperature=temperature,
        ece=expected_calibration_error(p, t),
        error_auroc=error_auroc(u, (p > threshold) != t),
        aurc=risk_coverage(image_uncertainty, risk),
        excess_aurc=excess_aurc(image_uncertainty, risk),
        spearman=spearman(image_uncertainty, risk),
        images=len(bands),
        pixels=int(t.size),
    )
