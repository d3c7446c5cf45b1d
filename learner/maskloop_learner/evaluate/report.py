"""What an evaluation gathers on its way, and the files that it leaves: figures, tables and pictures."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskloop_learner.evaluate.calibration import CalibrationSample, is_sampled
from maskloop_learner.evaluate.cards import Gallery
from maskloop_learner.evaluate.cells import to_json, write_atomically
from maskloop_learner.evaluate.page import PAGE_CARDS, draw_page
from maskloop_learner.evaluate.results import Figures, ImageResult, show, summarise, to_csv
from maskloop_learner.evaluate.run import Look
from maskloop_learner.evaluate.sheet import PNG_CARDS, Heading, draw_sheet, pick_cards
from maskloop_learner.train.calibration import report_calibration


@dataclass
class Evaluation:
    """Results as they come. `total`: images there will be; `threshold`: of the masks, 0..1."""

    total: int
    threshold: float
    pictures: bool = True
    """Whether tiles are drawn."""
    results: list[ImageResult] = field(default_factory=list)
    samples: dict[str, CalibrationSample] = field(default_factory=dict)
    _places: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gallery = Gallery(limit=PAGE_CARDS if self.pictures else 0)

    def add(self, look: Look) -> None:
        """Take in one result. Raises ValueError when the prediction's maps were not kept."""
        self.results.append(look.result)
        self.gallery.add(look)
        place = self._places.setdefault(look.case.name, len(self._places))
        if is_sampled(place, self.total):
            self.samples.setdefault(look.result.label, CalibrationSample()).add(look)

    def summary(self) -> dict[str, Figures]:
        """Figures by label (see `summarise_label`) with `calibration`. Raises ValueError without results."""
        return {
            label: {**figures, "calibration": self._calibration(label)}
            for label, figures in summarise(self.results).items()
        }

    def _calibration(self, label: str) -> Figures:
        return report_calibration(**vars(self.samples[label]), threshold=self.threshold).to_dict()


def write_report(
    folder: Path, evaluation: Evaluation, summary: Mapping[str, Figures], *, title: str, about: Mapping[str, Any]
) -> list[Path]:
    """results.csv, summary.json, contact.png and contact.html in `folder`; returns their paths.

    `about`: what was evaluated (JSON types), put beside the figures.
    """
    cards = evaluation.gallery.cards
    shown = pick_cards(cards, PNG_CARDS)
    picture = io.BytesIO()
    draw_sheet(shown, make_heading(evaluation, summary, title=title, shown=len(shown))).save(picture, "PNG")
    page = draw_page(cards, make_heading(evaluation, summary, title=title, shown=len(cards)))
    files = {
        "results.csv": to_csv(evaluation.results).encode(),
        "summary.json": to_json({"about": dict(about), "labels": dict(summary)}).encode(),
        "contact.png": picture.getvalue(),
        "contact.html": page.encode(),
    }
    for name, data in files.items():
        write_atomically(folder / name, data)
    return [folder / name for name in files]


def make_heading(evaluation: Evaluation, summary: Mapping[str, Figures], *, title: str, shown: int) -> Heading:
    """Title, mean Dice by label, and which of the results are shown."""
    dice = ", ".join(f"{label} Dice {show(figures['dice'])}" for label, figures in summary.items())
    kept, seen = len(evaluation.gallery.cards), evaluation.gallery.seen
    if shown == seen:
        which = f"all {seen} results, worst first"
    elif shown == kept:
        which = f"the {shown} worst of {seen} results, worst first"
    else:
        which = f"{shown} of {'all' if kept == seen else 'the worst'} {kept} results at even steps, worst first"
    return Heading(title, (dice, which))
