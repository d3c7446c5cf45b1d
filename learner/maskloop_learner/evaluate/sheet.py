"""The contact sheet as one picture: cards in two columns, worst first, on a dark ground as images are read."""

import io
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from maskloop_learner.evaluate.cards import TILE, TILES, Card
from maskloop_learner.evaluate.results import ImageResult
from maskloop_learner.evaluate.tiles import FOUND, TRUTH, heat_colours

GROUND, PANEL, TEXT, DIM, TRACK = "#0e1116", "#171b22", "#e6eaf0", "#8b95a5", "#2a313c"
BAD, FAIR, GOOD = "#e5484d", "#f5a524", "#30a46c"
MARGIN, GAP, PAD = 32, 8, 16
COLUMNS = 2
HEAD = 118
ABOVE, BELOW = 62, 58
"""Room of a card's texts above and below its tiles."""
CARD_WIDTH = len(TILES) * TILE + (len(TILES) - 1) * GAP + 2 * PAD
CARD_HEIGHT = ABOVE + TILE + BELOW
LONGEST = 400
"""No text of a card is longer, in letters: measuring takes its time."""
PNG_CARDS = 24
"""A picture of more cards is too long to look at; the page shows more."""


@dataclass(frozen=True)
class Heading:
    """What stands above the cards."""

    title: str
    lines: tuple[str, ...]
    """Few and short: figures, model, how many of how many."""


def pick_cards(cards: Sequence[Card], count: int) -> list[Card]:
    """`count` cards at even steps through `cards`, the first and the last among them; all when there are fewer."""
    if len(cards) <= count:
        return list(cards)
    if count == 1:
        return [cards[0]]
    return [cards[round(place * (len(cards) - 1) / (count - 1))] for place in range(count)]


def draw_sheet(cards: Sequence[Card], heading: Heading) -> Pillow.Image:
    """Cards in their order, left to right, RGB. Raises ValueError without cards."""
    if not cards:
        raise ValueError("there is no card to draw")
    columns = min(COLUMNS, len(cards))
    rows = -(-len(cards) // columns)
    width = 2 * MARGIN + columns * CARD_WIDTH + (columns - 1) * MARGIN // 2
    height = HEAD + MARGIN + rows * (CARD_HEIGHT + MARGIN // 2)
    sheet = Pillow.new("RGB", (width, height), GROUND)
    _draw_heading(sheet, heading)
    for number, card in enumerate(cards):
        row, column = divmod(number, columns)
        x = MARGIN + column * (CARD_WIDTH + MARGIN // 2)
        sheet.paste(draw_card(card), (x, HEAD + row * (CARD_HEIGHT + MARGIN // 2)))
    return sheet


def draw_card(card: Card) -> Pillow.Image:
    """One card, CARD_WIDTH x CARD_HEIGHT pixels: name and prompt, four tiles, Dice as a bar, uncertainty."""
    panel = Pillow.new("RGB", (CARD_WIDTH, CARD_HEIGHT), GROUND)
    pen = ImageDraw.Draw(panel)
    pen.rounded_rectangle((0, 0, CARD_WIDTH - 1, CARD_HEIGHT - 1), 10, fill=PANEL)
    result, room = card.result, CARD_WIDTH - 2 * PAD
    _write(pen, (PAD, 12), result.name, size=18, room=room - 150)
    _write(pen, (CARD_WIDTH - PAD, 14), result.label, size=15, fill=DIM, room=140, anchor="ra")
    _write(pen, (PAD, 37), result.prompt, size=14, fill=DIM, room=room)
    places = tile_places()
    for name in TILES:
        panel.paste(Pillow.open(io.BytesIO(card.tiles[name])).convert("RGB"), places[name])
    under = ABOVE + TILE + 10
    _draw_bar(pen, (PAD, under + 26, places["found"][0] - GAP, under + 32), result.dice)
    _write(pen, (PAD, under), f"Dice {result.dice:.3f}", size=18)
    _write(pen, (places["found"][0] - GAP, under + 2), describe_outlines(result), size=14, fill=DIM, anchor="ra")
    _write(pen, (places["found"][0], under + 2), f"found {space(result.area_found)} px", size=14, fill=DIM)
    _write(pen, (places["found"][0], under + 21), f"truth {space(result.area_truth)} px", size=14, fill=DIM)
    entropy = result.uncertainties["predictive_entropy"]
    _write(pen, (places["uncertainty"][0], under), f"uncertainty {entropy:.4f}", size=18)
    return panel


def tile_places() -> dict[str, tuple[int, int]]:
    """Left upper corner of each tile in a card."""
    return {name: (PAD + number * (TILE + GAP), ABOVE) for number, name in enumerate(TILES)}


def score_colour(dice: float) -> str:
    """Red, amber or green: below 0.5, below 0.8, and above."""
    return BAD if dice < 0.5 else FAIR if dice < 0.8 else GOOD


def describe_outlines(result: ImageResult) -> str:
    """NSD and HD95 in words; where a mask is empty, what that means."""
    if not result.area_truth:
        return "no lesion, false alarm" if result.area_found else "no lesion, none found"
    if not result.area_found:
        return "missed"
    return f"NSD {result.nsd:.3f} \u00b7 HD95 {result.hd95:.1f} px"


def space(count: int) -> str:
    """A number with its thousands apart."""
    return f"{count:,}".replace(",", " ")


def _draw_bar(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], share: float) -> None:
    left, top, right, bottom = box
    pen.rounded_rectangle(box, 3, fill=TRACK)
    if share > 0:
        end = left + max(6, round((right - left) * share))
        pen.rounded_rectangle((left, top, end, bottom), 3, fill=score_colour(share))


def _draw_heading(sheet: Pillow.Image, heading: Heading) -> None:
    pen = ImageDraw.Draw(sheet)
    legend = 330
    _write(pen, (MARGIN, 24), heading.title, size=30, room=sheet.width - legend - 2 * MARGIN)
    for number, line in enumerate(heading.lines[:2]):
        _write(pen, (MARGIN, 64 + 22 * number), line, size=16, fill=DIM, room=sheet.width - legend - 2 * MARGIN)
    x = sheet.width - MARGIN - legend + 30
    for number, (colour, text) in enumerate(((TRUTH, "truth"), (FOUND, "found"))):
        left = x + 110 * number
        pen.rounded_rectangle((left, 34, left + 18, 46), 3, outline=colour, width=2)
        _write(pen, (left + 26, 30), text, size=16)
    bar = Pillow.fromarray(heat_colours()[None]).resize((300, 10), Pillow.Resampling.BILINEAR)
    sheet.paste(bar, (x, 66))
    for at, text, anchor in ((0, "0", "la"), (150, "uncertainty", "ma"), (300, "1", "ra")):
        _write(pen, (x + at, 80), text, size=14, fill=DIM, anchor=anchor)


def _write(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    *,
    size: int,
    fill: str = TEXT,
    room: int | None = None,
    anchor: str = "la",
) -> None:
    font = ImageFont.load_default(size)
    text = text[:LONGEST]
    if room is not None and font.getlength(text) > room:
        fits = bisect_right(range(len(text)), float(room), key=lambda end: font.getlength(text[:end] + "..."))
        text = text[: max(0, fits - 1)].rstrip() + "..."
    pen.text(at, text, fill=fill, font=font, anchor=anchor)
