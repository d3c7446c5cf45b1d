"""What a contact sheet shows of one image and label, small enough to keep many."""

import heapq
import io
from dataclasses import dataclass, field

from PIL import Image as Pillow
from PIL import ImageChops

from maskloop_learner.evaluate.results import ImageResult
from maskloop_learner.evaluate.run import Look
from maskloop_learner.evaluate.tiles import heat_tile, mask_tile, picture_tile

TILE = 224
"""Side of a tile in pixels."""
TILES = ("image", "truth", "found", "uncertainty")


@dataclass(frozen=True)
class Card:
    """A result with its four tiles, PNG files of TILE x TILE pixels, by name of TILES."""

    result: ImageResult
    tiles: dict[str, bytes] = field(repr=False)

    @property
    def order(self) -> tuple[float, str, str]:
        """Worst first; equal ones by name."""
        return self.result.dice, self.result.name, self.result.label


class Gallery:
    """Takes images as they come and keeps the worst, so that memory does not grow with a data set."""

    def __init__(self, *, limit: int) -> None:
        """`limit`: cards that are kept. Raises ValueError when it is negative."""
        if limit < 0:
            raise ValueError(f"limit must be 0 or more cards, got {limit!r}")
        self._limit = limit
        self._heap: list[tuple[float, int, Card]] = []
        self.seen = 0
        """Results taken in."""

    def add(self, look: Look) -> None:
        """Draw a result if it belongs to the worst so far. Raises ValueError when the maps were not kept."""
        self.seen += 1
        if not self._limit:
            return
        dice = look.result.dice
        if len(self._heap) == self._limit and -self._heap[0][0] <= dice:
            return
        # The number breaks ties: of equal ones the first stay.
        entry = (-dice, -self.seen, draw_card(look))
        if len(self._heap) < self._limit:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heapreplace(self._heap, entry)

    @property
    def cards(self) -> list[Card]:
        """The cards that are kept, Dice ascending."""
        return sorted((card for _, _, card in self._heap), key=lambda card: card.order)


def draw_card(look: Look) -> Card:
    """The card of one result. Raises ValueError when the prediction's maps were not kept."""
    if look.found.maps is None:
        raise ValueError(f"{look.case.name}: its maps were not kept; predict with keep_maps=True")
    image, truth = look.case.image, look.truth
    pictures = (
        picture_tile(image, side=TILE),
        mask_tile(image, side=TILE, truth=truth),
        mask_tile(image, side=TILE, truth=truth, found=look.found.mask),
        heat_tile(look.found.maps.predictive_entropy, side=TILE),
    )
    return Card(look.result, {name: to_png(picture) for name, picture in zip(TILES, pictures, strict=True)})


def to_png(picture: Pillow.Image) -> bytes:
    """An RGB picture as a PNG file; with a palette where that is as exact, as for grey images and heat maps."""
    small = picture.quantize(256) if picture.getcolors(256) is not None else picture
    exact = ImageChops.difference(small.convert("RGB"), picture).getbbox() is None
    buffer = io.BytesIO()
    (small if exact else picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
