"""The pictures of a report, each drawn whole and carried in the page itself."""

import base64
import io
from dataclasses import dataclass

from PIL import Image

from maskloop_backend.report.coming import Coming
from maskloop_backend.web.dashboard.colours import rgb
from maskloop_backend.web.dashboard.drawing import beside, encode, outline, shrink
from maskloop_backend.web.dashboard.thumbs import Thumbs
from maskloop_learner.pool.images import ImageError
from maskloop_learner.pool.maps import MapError, decode_map
from maskloop_learner.pool.masks import MaskError, decode_mask
from maskloop_learner.pool.store import BlobError, Store, StoreDown

SIDE = 256
"""Pixels of the longer side: some 10 kB a picture."""
QUALITY = 82
OTHER = "#ffffff"
"""Of a label that the config has no longer."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """An image as the report shows it: addresses that hold the picture; None where there is none."""

    coming: Coming
    drawn: str | None = None
    """The image with the outlines of its masks."""
    heat: str | None = None
    """The image in grey with its uncertainty."""
    trouble: str | None = None
    """Why something cannot be drawn."""


def draw_shot(store: Store, thumbs: Thumbs, coming: Coming, colours: dict[str, str]) -> Shot:
    """Draw what can be drawn: a picture that is lost is told of, and costs no report."""
    if coming.image is None:
        return Shot(coming=coming, trouble="its image is not fetched yet")
    try:
        small = _small(store, thumbs, coming.image)
        return Shot(coming=coming, drawn=_draw(store, small, coming, colours), heat=_heat(store, small, coming))
    except (BlobError, ImageError, MaskError, MapError, StoreDown) as error:
        return Shot(coming=coming, trouble=f"it cannot be drawn: {error}")


def as_address(data: bytes, kind: str) -> str:
    """A data: address that holds a file."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _small(store: Store, thumbs: Thumbs, digest: str) -> bytes:
    return thumbs.get(f"{digest}-{SIDE}.webp", lambda: shrink(store.get("images", digest), SIDE))


def _draw(store: Store, small: bytes, coming: Coming, colours: dict[str, str]) -> str:
    masks = [
        (decode_mask(store.get("masks", digest), name=f"mask {digest[:12]}"), rgb(colours.get(label, OTHER)))
        for label, digest in coming.masks.items()
    ]
    if not masks:
        return as_address(small, "image/webp")
    with Image.open(io.BytesIO(small)) as opened:
        picture = opened.convert("RGBA")
    lines = Image.open(io.BytesIO(outline(masks, side=SIDE)))
    # A small image is outlined larger than it is, so that its lines are no rows of blocks.
    canvas = picture.resize(lines.size, Image.Resampling.BICUBIC)
    canvas.alpha_composite(lines)
    return as_address(encode(canvas.convert("RGB"), "WEBP", quality=QUALITY, method=4), "image/webp")


def _heat(store: Store, small: bytes, coming: Coming) -> str | None:
    if not coming.maps:
        return None
    maps = [decode_map(store.get("maps", digest), name=f"map {digest[:12]}") for digest in coming.maps]
    with Image.open(io.BytesIO(beside(small, maps, side=SIDE))) as drawn:
        return as_address(encode(drawn, "WEBP", quality=QUALITY, method=4), "image/webp")
