"""A simulation's results as rows of text, for its page and for a terminal."""

from collections.abc import Mapping
from typing import Any

from maskloop_learner.select.outcome import Results
from maskloop_learner.select.plan import BASELINE
from maskloop_learner.select.verdicts import LEAST_P

NOT_REACHED = "not reached"


def show(value: float | None, *, sign: bool = False, digits: int = 4) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else f"{value:{'+' if sign else ''}.{digits}f}"


def area_rows(results: Results) -> list[list[str]]:
    """Strategy, AUBC, last Dice, difference to random, interval, corrected p, seeds ahead; the best first."""
    ordered = sorted(results["strategies"].items(), key=lambda item: -item[1]["aubc"]["mean"])
    rows = []
    for name, found in ordered:
        row = [name, show(found["aubc"]["mean"]), show(found["curve"][-1]["mean"])]
        against = found.get("against_random")
        if against is None:
            rows.append([*row, "–", "–", "–", "–"])
            continue
        low, high = (show(against[bound], sign=True) for bound in ("low", "high"))
        told = "–" if against["low"] is None else f"{low} to {high}"
        ahead = f"{against['ahead']} of {against['seeds']}"
        rows.append([*row, show(against["mean"], sign=True), told, _show_p(against["p_adjusted"]), ahead])
    return rows


AREA_HEAD = ("strategy", "AUBC", "last Dice", "to random", "interval", "p", "ahead")


def target_rows(results: Results) -> list[list[str]]:
    """Strategy, then for each target labels of the mean curve, how many random needs more, and in how many seeds the
    own curve is there before random's."""
    return [
        [name, *(text for each in found["labels_to_target"] for text in _reach(each, name, len(found["seeds"])))]
        for name, found in results["strategies"].items()
    ]


def target_head(results: Results) -> list[str]:
    """Of `target_rows`."""
    return [
        "strategy",
        *(
            text
            for target in results["targets"]
            for text in (f"labels to Dice {target['dice']:.3f}", "saved", "sooner")
        ),
    ]


def effort_rows(results: Results) -> list[list[str]]:
    """Strategy, pixels that were drawn in a chosen image, how many times as many as with random, connected parts."""
    base = results["strategies"][BASELINE]["effort"]["pixels"]
    return [
        [
            name,
            f"{found['effort']['pixels']:,.0f}",
            f"× {found['effort']['pixels'] / base:.2f}" if base else "–",
            show(found["effort"]["parts"], digits=2),
        ]
        for name, found in results["strategies"].items()
    ]


EFFORT_HEAD = ("strategy", "pixels an image", "to random", "parts an image")


def _reach(each: Mapping[str, Any], name: str, seeds: int) -> tuple[str, str, str]:
    labels = NOT_REACHED if each["labels"] is None else f"{each['labels']:.1f}"
    if name == BASELINE:
        return labels, "–", "–"
    saved = "–" if each["saved"] is None else f"{each['saved']:+.1f}"
    return labels, saved, f"{each['sooner']} of {seeds}"


def _show_p(p: float | None) -> str:
    if p is None:
        return "–"
    return f"< {LEAST_P}" if p < LEAST_P else f"{p:.3f}"
