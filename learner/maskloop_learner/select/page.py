"""A simulation's results as one HTML file that needs nothing else: verdicts, curves, tables, settings."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from maskloop_learner.select.chart import Chart, Line, Point, draw_svg
from maskloop_learner.select.outcome import PREFIX, Results
from maskloop_learner.select.plan import BASELINE
from maskloop_learner.select.tables import AREA_HEAD, EFFORT_HEAD, area_rows, effort_rows, target_head, target_rows
from maskloop_learner.select.verdicts import LEVEL

QUALITY = {
    "spearman": "Spearman of image uncertainty and 1 - Dice (1: perfect order, 0: none)",
    "auroc": "AUROC of pixel entropy for wrong pixels (1: perfect, 0.5: no use)",
    "aurc": "AURC, the risk of trusting the least uncertain images (lower is better)",
}
_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #14181f; --dim: #5a6472; --line: #dde2e8; --panel: #f5f7f9;
  --good: #1a7f4b; --bad: #b42318 }
@media (prefers-color-scheme: dark) { :root { --ground: #0e1116; --text: #e6eaf0; --dim: #98a2b3; --line: #2a313c;
  --panel: #171b22; --good: #4cc38a; --bad: #ff8b7d } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1000px; padding: 28px 24px 60px; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 26px; font-weight: 600; margin: 0 0 4px } h2 { font-size: 19px; font-weight: 600; margin: 36px 0 8px }
p { margin: 4px 0; max-width: 80ch } .dim { color: var(--dim) }
ul.verdicts { list-style: none; padding: 0; margin: 20px 0 }
ul.verdicts li { background: var(--panel); border-left: 4px solid var(--dim); border-radius: 4px; padding: 8px 14px;
  margin: 8px 0 }
li.better { border-color: var(--good) !important } li.worse, li.warning { border-color: var(--bad) !important }
svg { width: 100%; height: auto; display: block }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: 6px 10px; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left } th { font-weight: 600; color: var(--dim) }
"""


def draw_curves(results: Results, *, title: str) -> Chart:
    """Mean Dice over labels with bands, random in grey, targets dotted."""
    return Chart(
        title=title,
        x_title="labelled images",
        y_title="mean Dice on the test images",
        lines=[
            Line(
                name,
                [Point(each["labels"], each["mean"], *_within(each)) for each in found["curve"]],
                baseline=name == BASELINE,
            )
            for name, found in results["strategies"].items()
        ],
        levels=[target["dice"] for target in results["targets"]],
    )


def _within(each: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """A band as it is drawn: Dice is never outside 0..1, Student's interval of two seeds may well be."""
    return (None, None) if each["low"] is None else (max(0.0, each["low"]), min(1.0, each["high"]))


def draw_quality(results: Results, name: str) -> Chart | None:
    """One figure of the uncertainty, mean over seeds, round by round; None where no round has it."""
    lines = [
        Line(
            strategy,
            [
                Point(labels, each[name])
                for labels, each in zip(results["budgets"], found["quality"], strict=True)
                if each[name] is not None
            ],
            baseline=strategy == BASELINE,
        )
        for strategy, found in results["strategies"].items()
    ]
    if not any(line.points for line in lines):
        return None
    return Chart(title=QUALITY[name], x_title="labelled images", y_title=name, lines=lines)


def draw_page(results: Results, *, title: str) -> str:
    """The file's text. Names are shown as they are, never run; nothing is loaded from anywhere."""
    data, options = results["data"], results["options"]
    charts = [chart for name in QUALITY if (chart := draw_quality(results, name)) is not None]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{escape(title)}</h1>"
        f'<p class="dim">{data["images"]} images in {data["groups"]} groups: {data["test"]} test, {data["pool"]} may '
        f"be chosen. Seeds: {options['seeds']}. First labels: {options['first']}. Rounds: {options['rounds']}, of "
        f"{options['batch']} each. Oracle: {escape(options['oracle'])}.</p>"
        f"{_verdicts(results)}"
        f"{draw_svg(draw_curves(results, title='Dice by labels'))}"
        f'<p class="dim">Bands: {LEVEL:.0%} intervals of the mean over seeds (Student\'s t), each for its own budget. '
        "Dotted: the targets below.</p>"
        f"<h2>Area under the curve (AUBC)</h2>{_areas(results)}"
        f"<h2>Labels to a target</h2>{_targets(results)}"
        f"<h2>What was labelled</h2>{table(EFFORT_HEAD, effort_rows(results), name='What was labelled')}"
        '<p class="dim">A label is not a label: images with larger lesions take longer to draw.</p>'
        f"<h2>Does uncertainty tell where the model is wrong?</h2>"
        '<p class="dim">On the test images, mean over seeds.</p>'
        f"{''.join(draw_svg(chart) for chart in charts)}"
        f"<h2>Settings</h2>{_settings(options)}</main></body></html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, name: str) -> str:
    """An HTML table that scrolls by itself where it is too wide, first column to the left; cells are escaped."""
    cells = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    region = f'<div class="wide" role="region" tabindex="0" aria-label="{escape(name)}">'
    return f"{region}<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"


def _verdicts(results: Results) -> str:
    told = [each for found in results["strategies"].values() for name, each in found.items() if name.startswith(PREFIX)]
    items = [(each["verdict"], each["text"]) for each in told]
    items += [("warning", text) for text in results["warnings"]]
    listed = "".join(f'<li class="{kind}">{escape(text)}</li>' for kind, text in items)
    return f'<ul class="verdicts">{listed}</ul>'


def _areas(results: Results) -> str:
    note = ""
    if count := len(results["verdicts"]):
        note = (
            f'<p class="dim">Differences are paired by seed. Intervals hold for all {count} comparisons at once with '
            f"{LEVEL:.0%}, and p is corrected for as many (Bonferroni).</p>"
        )
    return table(AREA_HEAD, area_rows(results), name="Area under the curve") + note


def _targets(results: Results) -> str:
    why = "; ".join(f"{target['dice']:.3f} is {target['why']}" for target in results["targets"])
    return (
        table(target_head(results), target_rows(results), name="Labels to a target")
        + f'<p class="dim">Of the mean curve, between two budgets by a straight line. Targets: {escape(why)}. '
        "Saved: labels that random's mean curve needs more. Sooner: seeds whose own curve is there before random's of "
        "the same seed.</p>"
    )


def _settings(options: Mapping[str, Any]) -> str:
    flat: dict[str, Any] = {}
    for name, value in options.items():
        flat |= {f"{name}: {key}": each for key, each in value.items()} if isinstance(value, Mapping) else {name: value}
    rows = ((name, ", ".join(value) if isinstance(value, list) else str(value)) for name, value in flat.items())
    return table(("setting", "value"), rows, name="Settings")
