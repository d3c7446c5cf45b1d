"""The contact sheet: what its tiles show, as a picture and as a page."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from looks import make_look, square
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageColor

from maskloop_learner.evaluate.cards import TILE, TILES, Card, Gallery, draw_card
from maskloop_learner.evaluate.page import draw_page
from maskloop_learner.evaluate.report import Evaluation, write_report
from maskloop_learner.evaluate.sheet import (
    ABOVE,
    CARD_HEIGHT,
    CARD_WIDTH,
    HEAD,
    MARGIN,
    PAD,
    Heading,
    draw_sheet,
    pick_cards,
    tile_places,
)
from maskloop_learner.evaluate.sheet import draw_card as draw_panel
from maskloop_learner.evaluate.tiles import FOUND, TRUTH, fit, heat_colour, heat_colours, heat_tile, mask_tile, trace

SIZE = (120, 160)
LESION = square(SIZE, 40, 60, 40)
HEADING = Heading("BUSI · test", ("tumor Dice 0.812 ± 0.104", "all 3 results, worst first"))


def card(**changes: object) -> Card:
    """A card of a lesion that is found a little too low."""
    asked = {"found": square(SIZE, 48, 60, 40), "truth": LESION, **changes}
    return draw_card(make_look(**asked))  # type: ignore[arg-type]


def pixels(data: bytes) -> NDArray[np.uint8]:
    """A PNG file's pixels, RGB."""
    return np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"))


def count(data: bytes, colour: str) -> int:
    """How many pixels of a PNG file have about this colour; outlines are smooth."""
    return int((np.abs(pixels(data).astype(int) - ImageColor.getrgb(colour)).max(axis=2) < 50).sum())


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_the_uncertainty_scale_is_fixed(value: float) -> None:
    """A constant map has the colour of its value, not of its own range; beside the image is ground."""
    tile = pixels(card(entropy=value).tiles["uncertainty"])
    height, width = fit(SIZE, TILE)
    top = (TILE - height) // 2
    inside = tile[top : top + height]
    assert (inside == np.array(heat_colour(value), dtype=np.uint8)).all()
    assert (height, width) == (168, TILE)
    assert (tile[:top] == ImageColor.getrgb("#0b0e13")).all()


def test_colours_rise_from_dark_to_bright() -> None:
    """In grey too, so that a print and a colour-blind eye read the same order."""
    grey = heat_colours() @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(grey) > -1e-9).all()
    assert grey[0] < 5
    assert grey[-1] > 230


def test_what_rounding_left_above_one_is_one() -> None:
    """Maps are float32, and were enlarged."""
    tile = heat_tile(np.full((4, 4), np.nextafter(np.float32(1), np.float32(2))), side=4)
    assert tile.getcolors() == [(16, heat_colour(1.0))]


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_a_map_outside_of_its_scale_is_refused(bad: float) -> None:
    """It would be drawn as something that it is not."""
    with pytest.raises(ValueError, match=r"0\.\.1"):
        heat_tile(np.full(SIZE, bad, dtype=np.float32), side=TILE)


def test_tiles_show_truth_and_found() -> None:
    """The plain image has neither colour, the truth's tile one, the found one's both, and a tint inside."""
    tiles = card().tiles
    assert set(tiles) == set(TILES)
    assert {pixels(data).shape for data in tiles.values()} == {(TILE, TILE, 3)}
    assert [count(tiles[name], TRUTH) > 50 for name in ("image", "truth", "found")] == [False, True, True]
    assert [count(tiles[name], FOUND) > 50 for name in ("image", "truth", "found")] == [False, False, True]
    plain, tinted = pixels(tiles["image"])[112, 112], pixels(tiles["found"])[112, 112]
    assert tinted[0] > plain[0]
    assert tinted[2] < plain[2]


def test_an_image_without_lesion_has_no_outline() -> None:
    """Nor has one where nothing was found."""
    nothing = np.zeros(SIZE, dtype=bool)
    tiles = card(found=nothing, truth=nothing).tiles
    assert np.array_equal(pixels(tiles["found"]), pixels(tiles["image"]))


def test_a_single_pixel_is_still_seen() -> None:
    """A lesion that shrinks to less than a pixel of the tile would look like none."""
    speck = square((2000, 3000), 1000, 1500, 1)
    inside, outline = trace(speck, side=TILE)
    assert np.asarray(inside).any()
    assert np.asarray(outline).any()
    tile = np.asarray(mask_tile(np.zeros((2000, 3000, 3), dtype=np.uint8), side=TILE, truth=speck))
    assert tile.max() > 30


def test_the_picture_holds_every_card_at_its_place() -> None:
    """Two columns; each tile's pixels are those of the card, to the bit."""
    cards = [card(name=f"{n}.png", entropy=0.3 * n) for n in range(3)]
    sheet = draw_sheet(cards, HEADING)
    step = MARGIN // 2
    assert sheet.size == (2 * MARGIN + 2 * CARD_WIDTH + step, HEAD + MARGIN + 2 * (CARD_HEIGHT + step))
    for number, each in enumerate(cards):
        row, column = divmod(number, 2)
        left, top = MARGIN + column * (CARD_WIDTH + step), HEAD + row * (CARD_HEIGHT + step)
        for name, (x, y) in tile_places().items():
            part = np.asarray(sheet)[top + y : top + y + TILE, left + x : left + x + TILE]
            assert np.array_equal(part, pixels(each.tiles[name])), (number, name)
    assert draw_sheet(cards[:1], HEADING).width == 2 * MARGIN + CARD_WIDTH
    with pytest.raises(ValueError, match="no card"):
        draw_sheet([], HEADING)


def test_texts_stay_inside_their_card() -> None:
    """A name and a prompt of any length are cut; the right padding stays free of them."""
    long = draw_panel(card(name="x" * 300 + ".png", prompt="words " * 200))
    assert (np.asarray(long)[12:ABOVE, CARD_WIDTH - PAD + 2 : CARD_WIDTH - 2] == ImageColor.getrgb("#171b22")).all()


def test_the_bar_is_as_long_as_dice() -> None:
    """Nothing at 0, all of it at 1."""
    row = ABOVE + TILE + 10 + 29
    full, half = (square(SIZE, 40, 60, 40), square(SIZE, 60, 60, 40))
    lengths = []
    for found in (full, half, square(SIZE, 0, 0, 10)):
        line = np.asarray(draw_panel(card(found=found)))[row, PAD : tile_places()["found"][0] - 8]
        lengths.append((line != ImageColor.getrgb("#2a313c")).any(axis=1).mean())
    assert lengths == pytest.approx([1, 0.5, 0], abs=0.02)


def test_the_gallery_keeps_the_worst() -> None:
    """In order of Dice, whatever order they come in; how many there were is known."""
    gallery = Gallery(limit=3)
    for shift in (0, 30, 8, 40, 16, 4):
        gallery.add(make_look(found=square(SIZE, 40 + shift, 60, 40), truth=LESION, name=f"{shift:02}.png"))
    assert [each.result.name for each in gallery.cards] == ["40.png", "30.png", "16.png"]
    assert gallery.seen == 6
    none = Gallery(limit=0)
    none.add(make_look(found=LESION, truth=LESION))
    assert (none.cards, none.seen) == ([], 1)


def test_cards_are_picked_at_even_steps() -> None:
    """The worst and the best are among them."""
    cards = [card(name=str(n)) for n in range(5)]
    assert [each.result.name for each in pick_cards(cards, 3)] == ["0", "2", "4"]
    assert pick_cards(cards, 9) == cards
    assert pick_cards(cards, 1) == cards[:1]


class Reader(HTMLParser):
    """Collects tags with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.tags.append((tag, dict(attrs)))


def test_the_page_needs_nothing_but_itself() -> None:
    """Every picture is in it and is the card's; it loads nothing; cards carry what they are sorted by."""
    cards = [card(name="1.png", entropy=0.5), card(name="2.png", found=LESION)]
    text = draw_page(cards, HEADING)
    reader = Reader()
    reader.feed(text)
    sources = [str(found["src"]) for tag, found in reader.tags if tag == "img"]
    data = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources]
    assert data == [each.tiles[name] for each in cards for name in TILES]
    assert not re.search(r"(?:src|href)=\"(?!data:)", text)
    assert not {tag for tag, _ in reader.tags} & {"link", "iframe", "object"}
    articles = [found for tag, found in reader.tags if tag == "article"]
    assert [(found["data-name"], found["data-dice"]) for found in articles] == [
        ("1.png", "0.800000"),
        ("2.png", "1.000000"),
    ]
    assert articles[0]["data-uncertainty"] == "0.500000"


def test_names_and_prompts_cannot_run_in_the_page() -> None:
    """They come from files of strangers."""
    evil = '"><script>alert(1)</script>'
    text = draw_page([card(name=evil, prompt=evil, label=evil)], Heading(evil, (evil,)))
    assert "<script>alert" not in text
    assert text.count("<script>") == 1


def test_a_report_is_four_files(tmp_path: Path) -> None:
    """A table, figures and two pictures; they say what they show."""
    evaluation = Evaluation(total=30, threshold=0.5)
    for number in range(30):
        evaluation.add(make_look(found=square(SIZE, 40 + number, 60, 40), truth=LESION, name=f"{number:02}.png"))
    paths = write_report(tmp_path / "out", evaluation, evaluation.summary(), title="discs", about={"seed": 1})
    assert [path.name for path in paths] == ["results.csv", "summary.json", "contact.png", "contact.html"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths)
    assert len(paths[0].read_text().splitlines()) == 31
    written = json.loads(paths[1].read_text())
    assert written["about"] == {"seed": 1}
    assert written["labels"]["tumor"]["images"] == 30
    with Pillow.open(paths[2]) as picture:
        assert picture.height == HEAD + MARGIN + 12 * (CARD_HEIGHT + MARGIN // 2)
    page = paths[3].read_text()
    assert page.count("<article") == 30
    assert "all 30 results, worst first" in page
    assert page.index("29.png") < page.index("00.png")
