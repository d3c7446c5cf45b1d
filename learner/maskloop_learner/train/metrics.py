"""How good a mask is: overlap (Dice, IoU) and how near its boundary runs (surface Dice, Hausdorff distance).

All take two bool masks [H, W] of one shape, in either order with the same result; distances are in pixels. A
boundary pixel is in the mask and has a side neighbour that is not, or lies at the image's rim. Definitions as in
arXiv 2206.01653 (Metrics Reloaded); empty masks have a value, because an image without a lesion is a result too:

                     Dice  IoU  surface Dice  Hausdorff
    both are empty      1    1             1          0
    one is empty        0    0             0          the image's diagonal
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

Mask = NDArray[np.bool_]
Distances = NDArray[np.float64]


def segmentation_metrics(found: Mask, truth: Mask, *, tolerance: float = 2.0) -> dict[str, float]:
    """Keys dice, iou, nsd (surface Dice at `tolerance` pixels) and hd95. Raises ValueError for unlike masks."""
    distances = boundary_distances(found, truth)
    return {
        "dice": dice(found, truth),
        "iou": iou(found, truth),
        "nsd": share_within(distances, tolerance),
        "hd95": percentile95(distances, found.shape),
    }


def dice(found: Mask, truth: Mask) -> float:
    """Overlap of two masks of one shape, 0..1; 1 where both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


def iou(found: Mask, truth: Mask) -> float:
    """Intersection over union, 0..1; Dice / (2 - Dice). Raises ValueError for unlike masks."""
    check_masks(found, truth)
    union = int((found | truth).sum())
    return int((found & truth).sum()) / union if union else 1.0


def surface_dice(found: Mask, truth: Mask, *, tolerance: float = 2.0) -> float:
    """Normalised surface Dice: share of both boundaries within `tolerance` pixels of the other, 0..1.

    Every boundary pixel counts 1, as in monai.metrics.compute_surface_dice; where boundaries run between pixels and
    count by length (arXiv 1809.04430) values differ by hundredths. Not comparable with the published NSD of
    MedCLIPSeg: that takes the mask for a slab with faces, so its inside counts as surface and values are higher.
    Raises ValueError for unlike masks and for a tolerance that is negative or not finite.
    """
    return share_within(boundary_distances(found, truth), tolerance)


def hausdorff95(found: Mask, truth: Mask) -> float:
    """95th percentile of boundary-to-boundary distances, the larger of both directions, 0 .. diagonal in pixels.

    Percentiles are interpolated, as in monai.metrics.compute_hausdorff_distance. Raises ValueError for unlike masks.
    """
    return percentile95(boundary_distances(found, truth), found.shape)


def boundary_distances(found: Mask, truth: Mask) -> tuple[Distances, Distances]:
    """From every boundary pixel of one mask to the nearest of the other, and back; infinite where that is empty."""
    check_masks(found, truth)
    a, b = (np.argwhere(mask & ~ndimage.binary_erosion(mask)) for mask in (found, truth))
    if not len(a) or not len(b):
        return np.full(len(a), np.inf), np.full(len(b), np.inf)
    return KDTree(b).query(a)[0], KDTree(a).query(b)[0]


def share_within(distances: tuple[Distances, Distances], tolerance: float) -> float:
    """Share of both lists that is at most `tolerance`, 0..1; 1 of nothing."""
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be 0 or more pixels, got {tolerance!r}")
    both = np.concatenate(distances)
    return float((both <= tolerance).mean()) if both.size else 1.0


def percentile95(distances: tuple[Distances, Distances], shape: tuple[int, ...]) -> float:
    """Larger of the 95th percentiles, at most the diagonal; 0 of nothing."""
    if not any(each.size for each in distances):
        return 0.0
    if not all(each.size for each in distances):
        return math.hypot(*shape)
    return max(float(np.percentile(each, 95)) for each in distances)


def check_masks(found: Mask, truth: Mask) -> None:
    """Raises ValueError unless both are bool [H, W] of one shape with at least one pixel."""
    for name, mask in ("found", found), ("truth", truth):
        if mask.dtype != np.bool_ or mask.ndim != 2 or not mask.size:
            raise ValueError(f"{name} must be a bool mask H x W, got {mask.dtype} {mask.shape!r}; compare with 0.5")
    if found.shape != truth.shape:
        raise ValueError(f"masks must have one shape, got {found.shape!r} and {truth.shape!r}")
