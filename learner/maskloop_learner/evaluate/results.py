"""Figures for each image and label, and what they come to."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, stdev
from typing import Any

from maskloop_learner.predict.ranks import spearman

METRICS = ("dice", "iou", "nsd", "hd95")
UNCERTAINTIES = ("predictive_entropy", "expected_entropy", "mutual_information", "variance")
Figures = dict[str, Any]
"""Figures by name, ready for JSON; None where one is not defined."""


@dataclass(frozen=True)
class ImageResult:
    """What was found of one label in one image."""

    name: str
    label: str
    prompt: str
    dice: float
    """0..1; 1 where both masks are empty."""
    iou: float
    """0..1; likewise."""
    nsd: float
    """Share of both outlines within 2 pixels of each other, 0..1; likewise."""
    hd95: float
    """95th percentile of the distances between the outlines, in pixels; the image's diagonal where one is empty."""
    area_found: int
    """Pixels of the mask."""
    area_truth: int
    probability: float
    """Mean probability inside the mask, 0..1; 0 when it is empty."""
    uncertainties: Mapping[str, float]
    """Means over the image, by name of UNCERTAINTIES."""
    aggregates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Measure -> aggregation -> value."""

    def to_row(self) -> dict[str, Any]:
        """One flat row, with the same keys for all results of a run."""
        row = {name: getattr(self, name) for name in ("name", "label", "prompt", *METRICS)}
        row |= {"area_found": self.area_found, "area_truth": self.area_truth, "probability": self.probability}
        row |= self.uncertainties
        for measure, values in self.aggregates.items():
            row |= {f"{measure}_{aggregation}": value for aggregation, value in values.items()}
        return row


def summarise(results: Sequence[ImageResult]) -> dict[str, Figures]:
    """Figures per label (see `summarise_label`), in the labels' order. Raises ValueError without results."""
    if not results:
        raise ValueError("there are no results to summarise")
    labels = dict.fromkeys(result.label for result in results)
    return {label: summarise_label([result for result in results if result.label == label]) for label in labels}


def summarise_label(results: Sequence[ImageResult]) -> Figures:
    """Means and spreads over all images, and apart: those with a lesion and those without.

    An image without a lesion has Dice 1 or 0 and nothing between, so a mean over both kinds hides each.
    `error_rank` is Spearman's correlation of each image's uncertainty with 1 - Dice, per aggregation.
    """
    lesion = [result for result in results if result.area_truth]
    empty = [result for result in results if not result.area_truth]
    return {
        "images": len(results),
        **{name: spread(results, name) for name in METRICS},
        "lesion": {"images": len(lesion), **{name: spread(lesion, name) for name in METRICS}},
        "empty": {
            "images": len(empty),
            "false_alarms": sum(bool(result.area_found) for result in empty),
            "dice": spread(empty, "dice"),
        },
        "missed": sum(not result.area_found for result in lesion),
        **{name: spread(results, name) for name in results[0].uncertainties},
        "error_rank": error_rank(results),
    }


def spread(results: Iterable[ImageResult], name: str) -> Figures:
    """Mean, sample standard deviation and median of one figure; None for too few images."""
    values = [result.to_row()[name] for result in results]
    return {
        "mean": fmean(values) if values else None,
        "sd": stdev(values) if len(values) > 1 else None,
        "median": median(values) if values else None,
    }


def error_rank(results: Sequence[ImageResult]) -> dict[str, float | None]:
    """Spearman's correlation, -1..1, of 1 - Dice with each uncertainty; None for < 3 images or constant values."""
    rows = [result.to_row() for result in results]
    names = [name for name in rows[0] if name.startswith(UNCERTAINTIES)]
    errors = [1 - result.dice for result in results]
    return {name: spearman([row[name] for row in rows], errors) for name in names}


def to_csv(results: Sequence[ImageResult]) -> str:
    """A table with a header, one line for each image and label. Raises ValueError without results."""
    if not results:
        raise ValueError("there are no results to write")
    out = io.StringIO(newline="")
    rows = [result.to_row() for result in results]
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def to_text(summary: Mapping[str, Figures], *, say: Callable[[str], None]) -> None:
    """Tell a person: one paragraph for each label."""
    for label, figures in summary.items():
        lesion, empty = figures["lesion"], figures["empty"]
        say(
            f"{label}: Dice {show(figures['dice'])}, IoU {show(figures['iou'])}, NSD {show(figures['nsd'])}, "
            f"HD95 {show(figures['hd95'], digits=1)} px on {figures['images']} images"
        )
        if empty["images"]:
            say(
                f"  with a lesion {lesion['images']}: Dice {show(lesion['dice'])}, {figures['missed']} missed; "
                f"without {empty['images']}: {empty['false_alarms']} with a false alarm"
            )


def show(figures: Figures, *, digits: int = 3) -> str:
    """`0.812 ± 0.104`; a dash where nothing is defined."""
    if figures["mean"] is None:
        return "-"
    return f"{figures['mean']:.{digits}f}" + ("" if figures["sd"] is None else f" ± {figures['sd']:.{digits}f}")
