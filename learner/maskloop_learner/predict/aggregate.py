"""From a map of uncertain pixels to one number per image: the step that decides the ranking.

    mean             sum u / (H W)                 prefers long boundaries, so large lesions; haze counts everywhere
    foreground_band  mean u near the mask          prefers small lesions: all of their band is boundary
    patch_max        largest mean of a patch       prefers one bad spot, wherever it lies; blind to how many
    top_q            mean of the top 5 % pixels    between the two: a long blurry boundary or much haze
    boundary_norm    sum u / length of boundary    prefers blur, at any size; haze around a small mask inflates it

None is right for all data (arXiv 2401.08501, 2603.29941); docs/uncertainty.md shows what each does to discs.
Numbers of one aggregation can be compared between images, numbers of two aggregations cannot.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Map = NDArray[np.float64]
Mask = NDArray[np.bool_]

MEASURES: tuple[str, ...] = ("predictive_entropy", "expected_entropy", "mutual_information", "variance")
"""Of a pixel's uncertainty."""
AGGREGATIONS: tuple[str, ...] = ("mean", "foreground_band", "patch_max", "top_q", "boundary_norm")

BAND_SHARE = 1 / 32
PATCH_SHARE = 1 / 8
TOP_PARTS = 20
ROUNDING = 1e-6
"""What float32 maps may be outside of 0..1 by."""


def aggregate(uncertainty: NDArray[np.floating], mask: Mask) -> dict[str, float]:
    """All of AGGREGATIONS of one map, in that order.

    uncertainty: [H, W] in 0..1, entropies divided by ln 2 or variances. mask: bool [H, W], what was predicted.
    The first four are in 0..1, `boundary_norm` is in pixels of the map, 0 or more. Sums are in float64; all are 0
    where the map is 0. Raises ValueError for other shapes or types, for NaN, and for values outside 0..1.
    """
    u = check_map(uncertainty, mask)
    patch = patch_max(u)
    return {
        "mean": float(u.mean()),
        "foreground_band": foreground_band(u, mask),
        "patch_max": patch,
        "top_q": top_q(u),
        "boundary_norm": boundary_norm(u, mask),
    }


def check_map(uncertainty: NDArray[np.floating], mask: Mask) -> Map:
    """The map in float64, row by row, cut to 0..1 where rounding had left it. Raises ValueError (see `aggregate`)."""
    if uncertainty.ndim != 2 or not uncertainty.size:
        raise ValueError(f"uncertainty must be H x W with at least one pixel, got shape {uncertainty.shape!r}")
    if mask.shape != uncertainty.shape or mask.dtype != np.bool_:
        raise ValueError(f"mask must be bool {uncertainty.shape!r} like the map, got {mask.dtype} {mask.shape!r}")
    low, high = float(uncertainty.min()), float(uncertainty.max())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # NaN fails too
        raise ValueError(f"uncertainty must be in 0..1, got values from {low!r} to {high!r}; divide entropies by ln 2")
    return np.clip(uncertainty.astype(np.float64, order="C"), 0, 1)


def foreground_band(u: Map, mask: Mask) -> float:
    """Mean over the mask and the pixels near it, 0..1; of an empty mask `patch_max`, the likeliest place of a miss.

    What the background is unsure of does not count. Inverse in size: the smaller a lesion, the more of it is edge.
    """
    return float(u[dilate(mask, band_radius(mask.shape))].mean()) if mask.any() else patch_max(u)


def patch_max(u: Map) -> float:
    """Largest mean over a square of an eighth of the shorter side, 0..1 (arXiv 2401.08501, patch level).

    The square moves by single pixels and stays inside the image: there is no padding that would dilute the rim.
    """
    side = patch_side(u.shape)
    sums = np.zeros((u.shape[0] + 1, u.shape[1] + 1))
    u.cumsum(0).cumsum(1, out=sums[1:, 1:])
    squares = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    # Differences of large sums: what is a mean of 0..1 must stay one.
    return min(max(float(squares.max()) / side**2, 0.0), float(u.max()))


def top_q(u: Map) -> float:
    """Mean of the most uncertain 5 % of the pixels, 0..1, wherever they are; `mean` <= `top_q`.

    A lesion with fewer uncertain pixels than that gets its share of zeros: below it is a perimeter meter too.
    """
    count = math.ceil(u.size / TOP_PARTS)
    return float(np.sort(np.partition(u, u.size - count, axis=None)[-count:]).mean())


def boundary_norm(u: Map, mask: Mask) -> float:
    """Uncertainty per pixel of boundary, in pixels: how wide the unsure strip is. 0 .. H W / length of boundary.

    A boundary p = sigmoid(distance / w) has predictive entropy pi^2 / (3 ln 2) w = 4.75 w, whatever its length.
    A mask without boundary (empty, or all of the image) is taken for a miss in the strongest patch: were that
    patch's uncertainty one disc of u = 1, sum / length is half of its radius, sqrt(sum / pi) / 2, at most 0.283 of
    the patch's side. So a blank image with an unseen lesion stands beside images with a lesion, not above all.
    """
    length = boundary_length(mask)
    if length:
        return float(u.sum()) / length
    return math.sqrt(patch_max(u) / math.pi) * patch_side(u.shape) / 2


def boundary_length(mask: Mask) -> float:
    """Length in pixels of the border between True and False; 0 without one. The image's rim is no border.

    Cauchy-Crofton formula with lines in four directions: 2 pi r of a disc, 3.79 (not 4) of a unit square, where
    counting pixels or their sides would be 10 or 27 % off for a disc and depend on how it is turned.
    """
    straight = np.count_nonzero(mask[1:] ^ mask[:-1]) + np.count_nonzero(mask[:, 1:] ^ mask[:, :-1])
    slanted = np.count_nonzero(mask[1:, 1:] ^ mask[:-1, :-1]) + np.count_nonzero(mask[1:, :-1] ^ mask[:-1, 1:])
    return math.pi / 8 * (straight + slanted / math.sqrt(2))


def dilate(mask: Mask, radius: int) -> Mask:
    """The mask and all pixels at most `radius` rows and columns away. Raises ValueError for a negative radius."""
    if radius < 0:
        raise ValueError(f"radius must be 0 or more pixels, got {radius!r}")
    grown: Mask = ndimage.maximum_filter(mask, size=2 * radius + 1, mode="constant", cval=0)
    return grown


def band_radius(shape: tuple[int, ...]) -> int:
    """Pixels by which a mask is grown to its band: a 32nd of the shorter side, at least 1."""
    return max(1, round(min(shape) * BAND_SHARE))


def patch_side(shape: tuple[int, ...]) -> int:
    """Side in pixels of a patch: an eighth of the shorter side, at least 1."""
    return max(1, round(min(shape) * PATCH_SHARE))
