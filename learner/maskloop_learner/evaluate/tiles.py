"""One image's pictures: as it is, with the truth, with what was found, and how unsure the model is where."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageColor
from scipy import ndimage

from maskloop_learner.predict.aggregate import ROUNDING

Mask = NDArray[np.bool_]
Colour = tuple[int, ...]

GROUND = "#0b0e13"
TRUTH = "#4cc9f0"
FOUND = "#ffb703"
FILL = 0.32
"""Opacity of the found mask's inside."""
FINE = 3
"""Outlines are drawn this many times larger and shrunk: smooth lines."""

_INFERNO = ("000004", "1b0c41", "4a0c6b", "781c6d", "a52c60", "cf4446", "ed6925", "fb9b06", "f7d13d", "fcffa4")


def heat_colours() -> NDArray[np.uint8]:
    """The 256 colours of 0..1, dark to bright [256, 3]: even steps to the eye, also in grey and to the colour-blind."""
    stops = np.array([ImageColor.getrgb(f"#{code}") for code in _INFERNO], dtype=float)
    places, wanted = np.linspace(0, 1, len(stops)), np.linspace(0, 1, 256)
    each = [np.interp(wanted, places, stops[:, channel]) for channel in range(3)]
    return np.stack(each, axis=1).round().astype(np.uint8)


def heat_colour(value: float) -> Colour:
    """The colour of one value in 0..1, as RGB."""
    return tuple(int(channel) for channel in heat_colours()[_level(np.array(value))])


def heat_tile(uncertainty: NDArray[np.float32], *, side: int) -> Pillow.Image:
    """A map [H, W] in colours, fitted into a square of `side` pixels.

    The scale is 0..1 in every tile. Stretching each map from its own least to its own largest value, as published
    figures do, makes an image the model is sure of look like one it knows nothing of; here it stays dark.
    Raises ValueError for values outside 0..1 by more than float32's rounding, NaN included.
    """
    if not bool(((uncertainty >= -ROUNDING) & (uncertainty <= 1 + ROUNDING)).all()):
        raise ValueError("an uncertainty map must lie in 0..1, got values outside or NaN; divide entropies by ln 2")
    height, width = fit(uncertainty.shape[:2], side)
    small = Pillow.fromarray(uncertainty.astype(np.float32)).resize((width, height), Pillow.Resampling.BILINEAR)
    return _centre(Pillow.fromarray(heat_colours()[_level(np.asarray(small))]), side)


def picture_tile(image: NDArray[np.uint8], *, side: int) -> Pillow.Image:
    """The image RGB [H, W, 3], fitted into a square of `side` pixels."""
    height, width = fit(image.shape[:2], side)
    return _centre(Pillow.fromarray(image).resize((width, height), Pillow.Resampling.LANCZOS), side)


def mask_tile(image: NDArray[np.uint8], *, side: int, truth: Mask, found: Mask | None = None) -> Pillow.Image:
    """The image with the truth's outline; with `found` its area and outline under that. Masks are [H, W]."""
    tile = picture_tile(image, side=side)
    if found is not None:
        inside, outline = trace(found, side=side)
        tile.paste(Pillow.new("RGB", tile.size, FOUND), mask=inside.point(lambda level: round(level * FILL)))
        tile.paste(Pillow.new("RGB", tile.size, FOUND), mask=outline)
    _, outline = trace(truth, side=side)
    tile.paste(Pillow.new("RGB", tile.size, TRUTH), mask=outline)
    return tile


def trace(mask: Mask, *, side: int) -> tuple[Pillow.Image, Pillow.Image]:
    """The area of a mask and its outline about 1.5 pixels wide, as opacities in a square of `side` pixels."""
    height, width = fit(mask.shape, side)
    full = Pillow.fromarray(mask).convert("L")
    large = full.resize((width * FINE, height * FINE), Pillow.Resampling.BILINEAR)
    # A mask too small to be half of a pixel is still to be seen.
    cut = 127 if large.getextrema()[1] > 127 else 0  # type: ignore[operator]
    large = large.point(lambda level: 255 * (level > cut))
    pixels = np.asarray(large)
    ring = Pillow.fromarray(ndimage.maximum_filter(pixels, 5) - ndimage.minimum_filter(pixels, 5))
    return tuple(_centre(each.resize((width, height), Pillow.Resampling.BOX), side) for each in (large, ring))  # type: ignore[return-value]


def fit(size: tuple[int, ...], side: int) -> tuple[int, int]:
    """Height and width of a picture of `size` scaled so that its longer side is `side` pixels."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _centre(picture: Pillow.Image, side: int) -> Pillow.Image:
    ground = Pillow.new(picture.mode, (side, side), GROUND if picture.mode == "RGB" else 0)
    ground.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return ground


def _level(values: NDArray[np.floating]) -> NDArray[np.intp]:
    return np.clip(values * 256, 0, 255).astype(np.intp)
