"""The first gate: a challenger must not be worse than the champion on the validation labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from statistics import fmean

DiceByLabel = Mapping[str, Sequence[float]]
"""Label -> Dice of each validation image, 0..1, in the same order for champion and challenger."""


@dataclass(frozen=True)
class Decision:
    """Whether the challenger replaces the champion, why, and the figures behind it."""

    promote: bool
    reason: str
    figures: dict[str, dict[str, float]] = field(default_factory=dict)


def decide(*, champion: DiceByLabel | None, challenger: DiceByLabel, margin: float) -> Decision:
    """Compare mean Dice over labels and images; `margin` (0..1) is how much worse still passes.

    Without a champion any finite challenger passes: there is nothing it could be worse than.
    Raises ValueError on a Dice that is not finite or outside 0..1.
    """
    for side in (champion or {}), challenger:
        for label, values in side.items():
            bad = [v for v in values if not isfinite(v) or not 0.0 <= v <= 1.0]
            if bad:
                raise ValueError(f"Dice of {label!r} must be in 0..1, got {bad[0]!r}")
    figures = {label: {"challenger": fmean(values)} for label, values in challenger.items() if values}
    count = max((len(values) for values in challenger.values()), default=0)
    if champion is None:
        said = f"mean Dice {_mean(challenger):.3f} on {count} validation images" if figures else "no validation images"
        return Decision(True, f"there is no champion to compare with ({said})", figures)
    if not figures:
        return Decision(False, "there are no validation labels to compare on; label more images", figures)
    for label in figures:
        figures[label]["champion"] = fmean(champion[label])
    new, old = _mean(challenger), _mean(champion)
    verdict = f"mean Dice {new:.3f} against the champion's {old:.3f} on {count} validation images, margin {margin:g}"
    if new >= old - margin:
        return Decision(True, verdict, figures)
    return Decision(False, verdict, figures)


def _mean(dice: DiceByLabel) -> float:
    values = [fmean(v) for v in dice.values() if v]
    return fmean(values) if values else 0.0
