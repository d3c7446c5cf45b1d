"""Pictures for people, out of arrays: small images, outlines of masks, and heat of uncertainty over them."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from maskloop_learner.pool.images import open_image
from maskloop_learner.pool.maps import Map
from maskloop_learner.pool.masks import Mask

STOPS = ((0.0, (0, 0, 4)), (0.25, (87, 16, 110)), (0.5, (188, 55, 84)), (0.75, (249, 142, 9)), (1.0, (252, 255, 164)))
"""Entropy -> colour: five stops of matplotlib's inferno, even in lightness, for colour-blind eyes as well."""
HEAT_ALPHA = 0.65
FINE, FINE_SIDE = 3, 320
"""An outline is drawn so many times larger than it is shown, and shrunk: its edge is smooth. Beyond `FINE_SIDE` pixels
twice as large is enough."""
NEUTRAL = (96, 96, 96)
DIM = 0.55
Colour = tuple[int, int, int]


def fit(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height with the aspect kept and the longer side at most `side`; never enlarged, never 0."""
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrink(data: bytes, side: int) -> bytes:
    """An image file as a small WebP, as a browser shows the original. Raises ImageError."""
    pixels = open_image(data)
    drawn = Image.fromarray(pixels)
    drawn = drawn.resize(fit(drawn.width, drawn.height, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return encode(drawn, "WEBP", quality=82, method=4)


def outline(masks: Sequence[tuple[Mask, Colour]], *, side: int) -> bytes:
    """The borders of masks of one size, each in its colour with a dark seam, on nothing: a PNG with alpha."""
    height, width = masks[0][0].shape
    # A small image is shown enlarged too, and then a line of its own pixels would be a row of blocks.
    size = fit(width * side, height * side, side)
    times = FINE if side <= FINE_SIDE else 2
    fine = size[0] * times, size[1] * times
    canvas = Image.new("RGBA", fine)
    for mask, colour in masks:
        grown = Image.fromarray(mask.astype(np.uint8) * 255).resize(fine, Image.Resampling.BILINEAR)
        inside = np.asarray(grown) > 127
        line = (2 + side // FINE_SIDE // 2) * times
        for reach, shade in ((line + 2 * times, (0, 0, 0, 170)), (line, (*colour, 255))):
            canvas.paste(Image.new("RGBA", fine, shade), mask=_border(inside, reach))
    # Pillow's resize premultiplies alpha, so that no dark rim comes from the empty pixels.
    return encode(canvas.resize(size, Image.Resampling.BOX), "PNG")


def heat(maps: Sequence[Map], *, width: int, height: int, side: int) -> bytes:
    """Where a model is unsure, the most unsure label counting, on nothing: a PNG with alpha.

    The scale is fixed (0 is clear, 1 is full heat), so that two pictures can be compared.
    """
    size = fit(width, height, side)
    entropy = _largest(maps, size)
    return encode(Image.fromarray(paint(entropy)), "PNG")


def beside(data: bytes, maps: Sequence[Map], *, side: int) -> bytes:
    """An image in grey, dimmed, with the heat on it: what an annotator sees beside the image itself. A PNG."""
    image = Image.fromarray(open_image(data))
    image = image.resize(fit(image.width, image.height, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    grey = image.convert("L").point(lambda value: round(value * DIM)).convert("RGBA")
    grey.alpha_composite(Image.fromarray(paint(_largest(maps, image.size))))
    return encode(grey.convert("RGB"), "PNG")


def neutral(*, width: int, height: int, side: int) -> bytes:
    """A picture of an image's shape that says nothing. A PNG."""
    return encode(Image.new("RGB", fit(width, height, side), NEUTRAL), "PNG")


def paint(entropy: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[H, W] in 0..1 -> RGBA [H, W, 4]."""
    places = [stop for stop, _ in STOPS]
    out = np.empty((*entropy.shape, 4), np.uint8)
    for channel in range(3):
        out[..., channel] = np.interp(entropy, places, [colour[channel] for _, colour in STOPS]).round()
    # Faint doubt stays faint, and what is certain stays as it is.
    out[..., 3] = (np.clip(entropy * 1.15 - 0.1, 0, 1) * HEAT_ALPHA * 255).round()
    return out


def encode(image: Image.Image, kind: str, **options: float) -> bytes:
    """The bytes of a picture."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _largest(maps: Sequence[Map], size: tuple[int, int]) -> NDArray[np.float32]:
    drawn = [np.asarray(Image.fromarray(each).resize(size, Image.Resampling.BILINEAR)) for each in maps]
    largest: NDArray[np.float32] = np.clip(np.max(drawn, axis=0), 0, 1)
    return largest


def _border(inside: Mask, reach: int) -> Image.Image:
    """Pixels within half of `reach` of a mask's edge, on both sides of it. The picture's rim is no edge."""
    grown = ndimage.maximum_filter(inside, size=reach, mode="nearest")
    shrunk = ndimage.minimum_filter(inside, size=reach, mode="nearest")
    return Image.fromarray((grown & ~shrunk).astype(np.uint8) * 255)
