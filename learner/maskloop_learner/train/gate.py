"""The gate: a challenger replaces the champion only where it is shown not to be worse.

It must pass three questions on the same images, each asked with the same samples of both models:

    overall       the lower bound of the mean Dice difference is above -margin (see `bootstrap`)
    slices        no slice with images enough is worse by more than the slices' margin (see `slices`)
    calibration   its expected calibration error is not larger by more than a margin

Fewer images than `min_images` show nothing: a challenger that does not look worse then waits for a person.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from statistics import fmean
from typing import Any, Literal

from maskloop_learner.train.bootstrap import lower_bound
from maskloop_learner.train.slices import ROUNDING, Case, Slice, by_image, cut_slices, image_means

Outcome = Literal["promote", "shadow", "reject"]
"""promote: it serves from now on; shadow: it waits beside the champion for a person's word; reject: it is kept, with
the reason."""
Errors = Mapping[str, Mapping[str, float]]
"""Label -> {"champion", "challenger"}: expected calibration errors, 0..1."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the gate asks; the settings `MASKLOOP_GATE_*`. Raises ValueError for a level or margin out of range."""

    margin: float = 0.01
    """Dice, 0..1."""
    level: float = 0.95
    """One-sided confidence of the lower bound."""
    slice_margin: float = 0.05
    slice_images: int = 20
    """Images with which a slice counts."""
    calibration_margin: float = 0.03
    min_images: int = 30
    allow_few: bool = False
    """With fewer images the means alone decide, without any confidence."""
    shadow: bool = False
    """A challenger that passes waits for a person all the same."""
    seed: int = 0
    """Of the bootstrap."""

    def __post_init__(self) -> None:
        for name in "margin", "slice_margin", "calibration_margin":
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in 0..1, got {getattr(self, name)!r}")
        if not 0.5 < self.level < 1:
            raise ValueError(f"level must be above 0.5 and below 1, got {self.level!r}")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of the challenger, why, and the figures behind it."""

    outcome: Outcome
    reason: str
    images: int = 0
    """On which both were compared."""
    left_out: int = 0
    """Validation images that the champion has learnt from: on these it could not be judged fairly."""
    champion: float | None = None
    """Mean Dice over the images."""
    challenger: float | None = None
    bound: float | None = None
    """What the difference is above with the rules' confidence; None where it cannot be told."""
    slices: tuple[Slice, ...] = ()
    calibration: dict[str, dict[str, float]] = field(default_factory=dict)
    """As `Errors`."""
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    """Label -> {"challenger", "champion"}: mean Dice, without the champion where it does not know the label."""
    rules: Rules | None = None
    by: dict[str, Any] = field(default_factory=dict)
    """Who or what decided."""

    @property
    def promote(self) -> bool:
        """Whether the challenger serves from now on."""
        return self.outcome == "promote"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self) | {"slices": [asdict(each) for each in self.slices]}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Decision":
        """What `to_dict` gave."""
        rules, slices = told.get("rules"), told.get("slices", ())
        made = {"slices": tuple(Slice(**each) for each in slices), "rules": Rules(**rules) if rules else None}
        return cls(**{**told, **made})


def decide(cases: Sequence[Case], *, rules: Rules, errors: Errors | None = None, left_out: int = 0) -> Decision:
    """Weigh a challenger against the champion. `left_out`: see `Decision`.

    Raises ValueError for calibration errors that are not in 0..1.
    """
    calibration = {label: dict(sides) for label, sides in (errors or {}).items()}
    if not cases:
        said = "there are no validation labels to compare on; label more images, or promote it by hand"
        if left_out:
            said = f"the champion has learnt from all {left_out} validation images; {_by_hand('it')}"
        return Decision(outcome="shadow", reason=said, left_out=left_out, calibration=calibration, rules=rules)
    images = by_image(cases)
    old, new = image_means(cases)
    differences = [sum(case.challenger - case.champion for case in each) / len(each) for each in images]
    bound = lower_bound(differences, [each[0].group for each in images], level=rules.level, seed=rules.seed)
    lack = _what_lacks(len(images), bound, rules)
    # Where images lack, no slice counts either.
    least = len(images) + 1 if lack else rules.slice_images
    slices = cut_slices(cases, margin=rules.slice_margin, least=least)
    said = f"mean Dice {new:.3f} against the champion's {old:.3f} on {len(images)} validation images"
    if lack:
        outcome, why = _weigh_few(new - old, lack, rules)
    else:
        found = [*_weigh_bound(bound, rules), *_weigh_slices(slices, rules), *_weigh_errors(calibration, rules)]
        outcome, why = "reject" if found else "promote", "; ".join(found) or _confidence(bound, rules)
    if rules.shadow and outcome == "promote":
        outcome, why = "shadow", f"{why}; it waits in shadow for a person's word"
    return Decision(
        outcome=outcome,
        reason=f"{said}; {why}",
        images=len(images),
        left_out=left_out,
        champion=old,
        challenger=new,
        bound=bound,
        slices=tuple(slices),
        calibration=calibration,
        figures={
            each.name: {"challenger": each.challenger, "champion": each.champion}
            for each in slices
            if each.kind == "label"
        },
        rules=rules,
    )


def decide_alone(dice: Mapping[str, Sequence[float]], *, why: str = "there is no champion to compare with") -> Decision:
    """Without a champion any challenger passes: there is nothing that it could be worse than.

    dice: label -> Dice of each validation image. Raises ValueError for a Dice that is not in 0..1.
    """
    for label, values in dice.items():
        if bad := [value for value in values if not isfinite(value) or not 0 <= value <= 1]:
            raise ValueError(f"Dice of {label!r} must be in 0..1, got {bad[0]!r}")
    figures = {label: {"challenger": fmean(values)} for label, values in dice.items() if values}
    count = max((len(values) for values in dice.values()), default=0)
    mean = fmean(each["challenger"] for each in figures.values()) if figures else None
    said = "no validation images" if mean is None else f"mean Dice {mean:.3f} on {count} validation images"
    return Decision(outcome="promote", reason=f"{why} ({said})", images=count, challenger=mean, figures=figures)


def table_rows(decision: Decision) -> list[tuple[str, str, str, str, str, str]]:
    """For people: part, images, champion, challenger, difference, what of it; all images first."""
    if decision.champion is None or decision.challenger is None:
        return []
    bound = "" if decision.bound is None else f"above {decision.bound:+.3f}"
    rows = [("all images", decision.images, decision.champion, decision.challenger, bound)]
    for each in decision.slices:
        verdict = ("ok" if each.passed else "worse") if each.counted else "too few to count"
        rows.append((f"{each.kind} {each.name}", each.images, each.champion, each.challenger, verdict))
    found = [(part, str(n), f"{a:.3f}", f"{b:.3f}", f"{b - a:+.3f}", verdict) for part, n, a, b, verdict in rows]
    for label, sides in decision.calibration.items():
        a, b = sides["champion"], sides["challenger"]
        found.append((f"calibration error {label}", "", f"{a:.3f}", f"{b:.3f}", f"{b - a:+.3f}", ""))
    return found


def _what_lacks(images: int, bound: float | None, rules: Rules) -> str:
    if images < rules.min_images:
        return f"fewer than {rules.min_images} images show nothing"
    return "" if bound is not None else "images of a single group show nothing"


def _weigh_few(difference: float, lack: str, rules: Rules) -> tuple[Outcome, str]:
    if difference < -rules.margin - ROUNDING:
        return "reject", f"that is worse by more than {rules.margin:g}"
    if not rules.allow_few:
        return "shadow", f"{lack}: {_by_hand('it')}, or let means decide with MASKLOOP_GATE_ALLOW_FEW=1"
    return "promote", f"{lack}, but MASKLOOP_GATE_ALLOW_FEW lets the means decide, margin {rules.margin:g}"


def _weigh_bound(bound: float | None, rules: Rules) -> list[str]:
    if bound is not None and bound > -rules.margin:
        return []
    return [f"{_confidence(bound, rules)}, which must be above -{rules.margin:g}"]


def _weigh_slices(slices: Sequence[Slice], rules: Rules) -> list[str]:
    return [
        f"{each.kind} {each.name!r} is worse by {-each.difference:.3f} on {each.images} images, "
        f"more than {rules.slice_margin:g}"
        for each in slices
        if not each.passed
    ]


def _weigh_errors(errors: Errors, rules: Rules) -> list[str]:
    for label, sides in errors.items():
        for side, value in sides.items():
            if not isfinite(value) or not 0 <= value <= 1:
                raise ValueError(f"the {side}'s calibration error of {label!r} must be in 0..1, got {value!r}")
    if not errors:
        return []
    old, new = (fmean(sides[side] for sides in errors.values()) for side in ("champion", "challenger"))
    if new <= old + rules.calibration_margin + ROUNDING:
        return []
    return [
        f"its calibration error {new:.3f} is above the champion's {old:.3f} by more than {rules.calibration_margin:g}"
    ]


def _confidence(bound: float | None, rules: Rules) -> str:
    return f"the difference is above {bound:+.4f} with {100 * rules.level:g} % confidence"


def _by_hand(what: str) -> str:
    return f"{what} waits for a person's `maskloop models promote`"
