"""The contact sheet as one HTML file that needs nothing else: cards that can be sorted and sifted in a browser."""

import base64
from collections.abc import Sequence
from html import escape

from maskloop_learner.evaluate.cards import TILE, TILES, Card
from maskloop_learner.evaluate.sheet import Heading, describe_outlines, score_colour, space
from maskloop_learner.evaluate.tiles import FOUND, TRUTH, heat_colours

PAGE_CARDS = 120
"""More cards make a file that browsers open slowly: each is about 170 kB."""

_STYLE = """
:root { color-scheme: dark; --ground: #0e1116; --panel: #171b22; --text: #e6eaf0; --dim: #8b95a5; --track: #2a313c }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--text); font: 15px/1.45 system-ui, sans-serif }
header { position: sticky; top: 0; z-index: 1; padding: 18px 28px 12px; background: var(--ground);
  border-bottom: 1px solid var(--track); display: flex; flex-wrap: wrap; gap: 8px 40px; align-items: flex-end }
h1 { font-size: 24px; font-weight: 500; margin: 0 }
header p { margin: 0; color: var(--dim) }
.legend { margin-left: auto; display: flex; gap: 18px; align-items: center; color: var(--dim) }
.legend i { display: inline-block; width: 16px; height: 12px; border: 2px solid; border-radius: 3px; margin-right: 6px }
.scale { width: 220px; height: 10px; border-radius: 3px }
nav { flex-basis: 100%; display: flex; flex-wrap: wrap; gap: 8px; align-items: center; color: var(--dim) }
button, input { font: inherit; color: var(--text); background: var(--panel); border: 1px solid var(--track);
  border-radius: 6px; padding: 4px 12px }
button { cursor: pointer } button[aria-pressed=true] { background: #2f6feb; border-color: #2f6feb }
main { display: grid; gap: 16px; padding: 20px 28px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 620px), 1fr)) }
article { background: var(--panel); border-radius: 10px; padding: 12px 16px 14px }
article h2 { font-size: 16px; font-weight: 500; margin: 0; display: flex; justify-content: space-between; gap: 16px;
  overflow-wrap: anywhere }
h2 small, .prompt, figcaption, footer { color: var(--dim); font-weight: 400; font-size: 13px }
.prompt { margin: 0 0 8px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 8px }
figure { margin: 0 } img { width: 100%; height: auto; display: block; border-radius: 4px }
.figures { display: flex; justify-content: space-between; gap: 12px; margin-top: 8px; align-items: baseline }
.figures span { color: var(--dim); font-size: 13px }
.bar { height: 6px; border-radius: 3px; background: var(--track); margin-top: 4px }
.bar i { display: block; height: 100%; border-radius: 3px }
footer { padding: 0 28px 28px; max-width: 80ch }
"""

_SCRIPT = """
const main = document.querySelector("main"), cards = [...main.children];
const buttons = [...document.querySelectorAll("button")], sift = document.querySelector("input");
for (const button of buttons) button.onclick = () => {
  const key = button.dataset.key, sign = Number(button.dataset.sign);
  buttons.forEach(other => other.setAttribute("aria-pressed", other === button));
  const byName = (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true });
  cards.sort((a, b) => key === "name" ? byName(a, b) : sign * (a.dataset[key] - b.dataset[key]));
  main.append(...cards);
};
sift.oninput = () => {
  const wanted = sift.value.toLowerCase();
  for (const card of cards) card.hidden = !card.textContent.toLowerCase().includes(wanted);
};
"""

_ORDERS = (("Dice, worst first", "dice", 1), ("uncertainty, highest first", "uncertainty", -1), ("name", "name", 1))


def draw_page(cards: Sequence[Card], heading: Heading) -> str:
    """The file's text, cards in their order. Names and prompts are shown as they are, never run."""
    orders = "".join(
        f'<button data-key="{key}" data-sign="{sign}" aria-pressed="{str(not number).lower()}">{text}</button>'
        for number, (text, key, sign) in enumerate(_ORDERS)
    )
    lines = "".join(f"<p>{escape(line)}</p>" for line in heading.lines)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        # Whatever a file's name holds, the page loads nothing from anywhere.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        f"<title>{escape(heading.title)}</title><style>{_STYLE}</style></head><body>"
        f"<header><div><h1>{escape(heading.title)}</h1>{lines}</div>{_legend()}"
        f'<nav>sorted by {orders}<input placeholder="name or words" aria-label="show cards with these words"></nav>'
        f"</header><main>{''.join(_card(card) for card in cards)}</main>"
        "<footer>Uncertainty is the predictive entropy of each pixel, from 0 (dark) to 1 (bright) in every tile: maps "
        "are never stretched to their own range, so a tile that stays dark is one the model is sure of. "
        "The number is its mean over the image.</footer>"
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def _legend() -> str:
    stops = ", ".join("#" + bytes(colour.tolist()).hex() for colour in heat_colours()[::15])
    return (
        f'<div class="legend"><span><i style="border-color:{TRUTH}"></i>truth</span>'
        f'<span><i style="border-color:{FOUND}"></i>found</span>'
        f'<span>0</span><div class="scale" style="background:linear-gradient(90deg, {stops})"></div>'
        "<span>1 uncertainty</span></div>"
    )


def _card(card: Card) -> str:
    result = card.result
    entropy = result.uncertainties["predictive_entropy"]
    captions = {
        "image": "image",
        "truth": f"truth {space(result.area_truth)} px",
        "found": f"found {space(result.area_found)} px",
        "uncertainty": f"uncertainty {entropy:.4f}",
    }
    tiles = "".join(
        f'<figure><img src="data:image/png;base64,{base64.b64encode(card.tiles[name]).decode()}" '
        f'width="{TILE}" height="{TILE}" alt="{name} of {escape(result.name)}">'
        f"<figcaption>{captions[name]}</figcaption></figure>"
        for name in TILES
    )
    colour = score_colour(result.dice)
    return (
        f'<article data-dice="{result.dice:.6f}" data-uncertainty="{entropy:.6f}" data-name="{escape(result.name)}">'
        f"<h2>{escape(result.name)}<small>{escape(result.label)}</small></h2>"
        f'<p class="prompt" title="{escape(result.prompt)}">{escape(result.prompt)}</p><div class="tiles">{tiles}</div>'
        f'<div class="figures"><b>Dice {result.dice:.3f}</b><span>{escape(describe_outlines(result))}</span></div>'
        f'<div class="bar"><i style="width:{result.dice:.1%};background:{colour}"></i></div></article>'
    )
