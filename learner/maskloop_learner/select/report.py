"""The files that a simulation leaves: figures for programs, curves for people."""

from pathlib import Path

from maskloop_learner.evaluate.cells import to_json, write_atomically
from maskloop_learner.select.outcome import Results
from maskloop_learner.select.page import draw_curves, draw_page
from maskloop_learner.select.picture import draw_png


def write_report(folder: Path, results: Results, *, title: str) -> list[Path]:
    """results.json, curves.png and curves.html in `folder`, each whole or not at all; returns their paths."""
    files = {
        "results.json": to_json(results).encode(),
        "curves.png": draw_png(draw_curves(results, title=title)),
        "curves.html": draw_page(results, title=title).encode(),
    }
    for name, data in files.items():
        write_atomically(folder / name, data)
    return [folder / name for name in files]
