"""The other code that draws and reads masks for the matrix: it agrees with itself and with the product's."""

import numpy as np
import pytest
from drawing import KINDS, MaskKind, iou
from scans import SHOWN, smooth_mask

from maskloop_backend.masks.rle import encode_rle


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_a_drawn_region_is_read_as_it_was_drawn(kind: MaskKind, seed: int) -> None:
    """Exact for brush and bitmask; a polygon of 72 points is the smooth shape within 2 %."""
    for height, width in SHOWN.values():
        mask = smooth_mask(seed, height, width)
        region = kind.region(mask, "Tumor", 1)
        assert iou(kind.masks([region])["Tumor"], mask) >= kind.least_iou
        assert iou(kind.masks([region])["Tumor"], np.roll(mask, 3, 0)) < 0.98, "three pixels off are seen"


def test_the_products_brush_is_read_by_other_code() -> None:
    """Every pixel, through label-studio-sdk."""
    mask = smooth_mask(1, 136, 200)
    assert np.array_equal(KINDS["brush"].read({"rle": encode_rle(mask)}, 136, 200), mask)


def test_a_polygon_is_filled_at_the_centres_of_pixels() -> None:
    """A rectangle from x 2 to 6 and y 1 to 3 of 10 x 8 pixels holds exactly these."""
    points = [[20.0, 12.5], [60.0, 12.5], [60.0, 37.5], [20.0, 37.5]]
    mask = KINDS["polygon"].read({"points": points}, 8, 10)
    wanted = np.zeros((8, 10), bool)
    wanted[1:3, 2:6] = True
    assert np.array_equal(mask, wanted)
