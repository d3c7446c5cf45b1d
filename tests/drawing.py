"""What an annotator's browser does with regions: draws and reads them, by other code than the product's."""

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

Mask = NDArray[np.bool_]
Value = dict[str, Any]


@dataclass(frozen=True)
class MaskKind:
    """A kind of mask tag. `read`: a region's value and the image's height and width -> mask; `write`: the reverse."""

    tag: str
    least_iou: float
    """1: pixel-exact."""
    read: Callable[[Mapping[str, Any], int, int], Mask]
    write: Callable[[Mask], Value]
    type: str

    def region(self, mask: Mask, label: str, number: int) -> dict[str, Any]:
        """A region as the page sends it for a mask that a person drew."""
        return {
            "id": f"drawn{number}",
            "type": self.type,
            "from_name": "tag",
            "to_name": "image",
            "origin": "manual",
            "image_rotation": 0,
            "original_width": mask.shape[1],
            "original_height": mask.shape[0],
            "value": {**self.write(mask), self.type: [label]},
        }

    def masks(self, result: list[dict[str, Any]]) -> dict[str, Mask]:
        """Label -> the union of its regions."""
        found: dict[str, Mask] = {}
        for region in result:
            assert region["type"] == self.type
            (label,) = region["value"][self.type]
            mask = self.read(region["value"], region["original_height"], region["original_width"])
            found[label] = mask | found.get(label, np.zeros_like(mask))
        return found


def read_brush(value: Mapping[str, Any], height: int, width: int) -> Mask:
    """The alpha channel that label-studio-sdk decodes."""
    from label_studio_sdk.converter.brush import decode_rle

    alpha: Mask = np.asarray(decode_rle(value["rle"])).reshape(height, width, 4)[..., 3] > 127
    return alpha


def write_brush(mask: Mask) -> Value:
    """What label-studio-sdk encodes."""
    from label_studio_sdk.converter.brush import mask2rle

    return {"format": "rle", "rle": mask2rle(mask.astype(np.uint8) * 255)}


def read_bitmask(value: Mapping[str, Any], height: int, width: int) -> Mask:
    """The pixels of the PNG that are not transparent."""
    head, data = value["imageDataURL"].split(",", 1)
    assert head == "data:image/png;base64"
    with Pillow.open(io.BytesIO(base64.b64decode(data))) as png:
        assert png.size == (width, height)
        assert png.mode in ("RGBA", "LA", "P"), "without transparency the whole image is filled"
        alpha: Mask = np.asarray(png.convert("RGBA"))[..., 3] > 127
        return alpha


def write_bitmask(mask: Mask) -> Value:
    """Coloured where the mask is, transparent elsewhere, as the page paints."""
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[mask] = (200, 30, 60, 255)
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, "PNG")
    return {"imageDataURL": "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()}


def read_polygon(value: Mapping[str, Any], height: int, width: int) -> Mask:
    """Pixels whose centre has an odd number of edges to its right; points are in per cent of the image."""
    x, y = (np.asarray(value["points"], float) * (width / 100, height / 100)).T
    rows, columns = np.mgrid[:height, :width] + 0.5
    inside = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
        if y0 != y1:
            crosses = (np.minimum(y0, y1) <= rows) & (rows < np.maximum(y0, y1))
            inside ^= crosses & (columns < x0 + (rows - y0) * (x1 - x0) / (y1 - y0))
    return inside


def write_polygon(mask: Mask) -> Value:
    """A star-shaped mask by its edge in 72 directions from its middle, as a careful hand would click."""
    height, width = mask.shape
    middle = np.argwhere(mask).mean(0) + 0.5
    points = []
    for angle in np.linspace(0, 2 * np.pi, 72, endpoint=False):
        way = np.arange(0, max(height, width), 0.1)
        y, x = middle[0] + way * np.sin(angle), middle[1] + way * np.cos(angle)
        within = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        on = np.flatnonzero(mask[y[within].astype(int), x[within].astype(int)])[-1]
        points.append([float(x[on] / width * 100), float(y[on] / height * 100)])
    return {"points": points, "closed": True}


KINDS = {
    "brush": MaskKind("BrushLabels", 1.0, read_brush, write_brush, "brushlabels"),
    "bitmask": MaskKind("BitmaskLabels", 1.0, read_bitmask, write_bitmask, "bitmasklabels"),
    "polygon": MaskKind("PolygonLabels", 0.98, read_polygon, write_polygon, "polygonlabels"),
}


def iou(one: Mask, other: Mask) -> float:
    """Overlap over union; 1 only for equal masks, two empty ones included."""
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0
