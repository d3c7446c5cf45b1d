"""What a finished simulation says: curves and areas, labels to a target, and whether a strategy beats random."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean, median
from typing import Any

import numpy as np

from maskloop_learner.select.curves import Lead, area_under, band, interval, labels_to, lead
from maskloop_learner.select.plan import BASELINE, Plan, SimulationError, Step
from maskloop_learner.select.records import Record, read_record
from maskloop_learner.train.bootstrap import lower_bound

LEVEL = 0.95
SHARES = (0.95, 1.0)
"""Targets where none are given: of the Dice that random reaches with all its labels, mean over seeds."""
FEW_SEEDS = 3
NEARLY_ALL = 0.7
"""Share of the pool from which on curves must meet, because all strategies have mostly the same images."""

Results = dict[str, Any]
"""As in results.json; docs/simulate.md has every name."""


def conclude(plan: Plan, *, targets: Sequence[float] = ()) -> Results:
    """All figures of a finished simulation. Raises SimulationError when a round is missing."""
    records = {(strategy, seed): _read(plan, strategy, seed) for strategy in plan.strategies for seed in _seeds(plan)}
    curves = {key: [fmean(record["test"].values()) for record in mine] for key, mine in records.items()}
    ends = fmean(curves[BASELINE, seed][-1] for seed in _seeds(plan))
    wanted = [(target, "given") for target in targets] or [
        (share * ends, f"{share:.0%} of what random reaches with {plan.budgets[-1]} labels") for share in SHARES
    ]
    found: dict[str, Results] = {}
    for strategy in plan.strategies:
        mine = [curves[strategy, seed] for seed in _seeds(plan)]
        found[strategy] = {
            "seeds": [
                _seed(plan, seed, records[strategy, seed], curves[strategy, seed], wanted) for seed in _seeds(plan)
            ],
            "curve": [
                {"labels": labels, **each.to_dict()}
                for labels, each in zip(plan.budgets, band(mine, level=LEVEL), strict=True)
            ],
            "aubc": interval([area_under(plan.budgets, curve) for curve in mine], level=LEVEL).to_dict(),
            "quality": _mean_quality([records[strategy, seed] for seed in _seeds(plan)]),
        }
        found[strategy]["labels_to_target"] = [
            _reach(plan, mine, target, why, [curves[BASELINE, seed] for seed in _seeds(plan)]) for target, why in wanted
        ]
    compared = [strategy for strategy in plan.strategies if strategy != BASELINE]
    for strategy in compared:
        found[strategy]["against_random"] = _compare(plan, records, strategy, comparisons=len(compared))
    return {
        "data": {
            "images": len(plan.subjects),
            "pool": len(plan.ground.pool),
            "test": len(plan.ground.test),
            "groups": len({g if g >= 0 else -1 - place for place, g in enumerate(plan.ground.groups)}),
            "labels": dict(plan.prompts),
        },
        "options": {**plan.determining(), "strategies": list(plan.strategies), "seeds": plan.seeds},
        "budgets": plan.budgets,
        "targets": [{"dice": target, "why": why} for target, why in wanted],
        "strategies": found,
        "verdicts": [found[strategy]["against_random"]["text"] for strategy in compared],
        "warnings": warnings(plan),
    }


def warnings(plan: Plan) -> list[str]:
    """What makes the figures say less than they seem to."""
    found = []
    if plan.seeds < FEW_SEEDS:
        found.append(
            f"{plan.seeds} {'seed says' if plan.seeds == 1 else 'seeds say'} little: differences between strategies "
            f"are as small as those between seeds; take {FEW_SEEDS} or more, better 5"
        )
    share = plan.budgets[-1] / len(plan.ground.pool)
    if share > NEARLY_ALL:
        found.append(
            f"the last round has {plan.budgets[-1]} of the pool's {len(plan.ground.pool)} images ({share:.0%}): curves "
            "must meet there, whatever the strategy"
        )
    return found


def say(strategy: str, told: Lead) -> tuple[str, str]:
    """`better`, `worse`, `unclear` or `unknown`, and a sentence with the figures."""
    d = told.difference
    if d.low is None or d.high is None:
        return "unknown", (
            f"{strategy}: AUBC {d.mean:+.4f} against random on one seed, which says nothing of chance; take more seeds"
        )
    figures = (
        f"AUBC {d.mean:+.4f} ({d.low:+.4f} to {d.high:+.4f}, paired p = {told.p:.3f}), "
        f"ahead in {told.ahead} of {told.seeds} seeds"
    )
    if d.low > 0:
        return "better", f"{strategy} beats random: {figures}"
    if d.high < 0:
        return "worse", f"{strategy} does not beat random, it is worse: {figures}"
    return "unclear", f"{strategy} does not beat random: {figures}"


def _seeds(plan: Plan) -> range:
    return range(plan.seeds)


def _read(plan: Plan, strategy: str, seed: int) -> list[Record]:
    steps = [*plan.before(last := Step(seed, strategy, plan.rounds)), last]
    found = []
    for step in steps:
        record = read_record(plan, step)
        if record is None:
            raise SimulationError(f"{step.name} is not finished; run the simulation again")
        found.append(record)
    return found


def _seed(
    plan: Plan, seed: int, records: Sequence[Record], curve: Sequence[float], targets: Sequence[tuple[float, str]]
) -> Results:
    """One campaign, round by round."""
    strategy = records[-1]["strategy"]
    batches = [record["picks"].get(strategy, []) for record in records[:-1]]
    return {
        "seed": seed,
        "dice": list(curve),
        "aubc": area_under(plan.budgets, curve),
        "labels_to_target": [labels_to(target, plan.budgets, curve) for target, _ in targets],
        "quality": [record["quality"] for record in records],
        "pixels": [sum(each["pixels"] for each in batch) for batch in batches],
        "parts": [sum(each["parts"] for each in batch) for batch in batches],
        "chosen": [[each["name"] for each in batch] for batch in batches],
        "seconds": [record["seconds"] for record in records],
    }


def _mean_quality(campaigns: Sequence[Sequence[Record]]) -> list[dict[str, float | None]]:
    """Means over seeds, round by round; None where no seed has the figure."""
    found = []
    for records in zip(*campaigns, strict=True):
        names = [name for name in records[0]["quality"] if name != "images"]
        known = {name: [r["quality"][name] for r in records if r["quality"][name] is not None] for name in names}
        found.append({name: fmean(values) if values else None for name, values in known.items()})
    return found


def _reach(
    plan: Plan, curves: Sequence[Sequence[float]], target: float, why: str, random: Sequence[Sequence[float]]
) -> Results:
    """Labels to a target: of the mean curve, and the median of the seeds' own, where most of them reach it."""
    own = [labels_to(target, plan.budgets, curve) for curve in curves]
    middle = median(float("inf") if each is None else each for each in own)
    mean = labels_to(target, plan.budgets, np.mean(curves, axis=0))
    base = labels_to(target, plan.budgets, np.mean(random, axis=0))
    return {
        "dice": target,
        "why": why,
        "labels": mean,
        "saved": None if mean is None or base is None else base - mean,
        "median": None if middle == float("inf") else middle,
        "reached": sum(each is not None for each in own),
    }


def _compare(
    plan: Plan, records: Mapping[tuple[str, int], Sequence[Record]], strategy: str, *, comparisons: int
) -> Results:
    """A strategy against random, paired by seed; and over the test images, paired by image."""
    areas = {
        name: np.array([_areas(plan, records[name, seed]) for seed in _seeds(plan)]) for name in (strategy, BASELINE)
    }
    # Several strategies have several chances to look good: intervals are widened so that all hold at once (Bonferroni).
    level = 1 - (1 - LEVEL) / comparisons
    told = lead(areas[strategy].mean(axis=1), areas[BASELINE].mean(axis=1), level=level)
    verdict, text = say(strategy, told)
    each = (areas[strategy] - areas[BASELINE]).mean(axis=0)
    groups = [f"group {g}" if g >= 0 else f"image {place}" for place, g in _test_groups(plan)]
    low = lower_bound(each, groups, level=(1 + level) / 2, seed=0)
    high = lower_bound(-each, groups, level=(1 + level) / 2, seed=0)
    return {
        **asdict(told.difference),
        "level": level,
        "p": told.p,
        "p_adjusted": None if told.p is None else min(1.0, told.p * comparisons),
        "comparisons": comparisons,
        "seeds": told.seeds,
        "ahead": told.ahead,
        "over_images": {"low": low, "high": None if high is None else -high},
        "verdict": verdict,
        "text": text,
    }


def _areas(plan: Plan, records: Sequence[Record]) -> list[float]:
    """AUBC of each test image's own curve; their mean is the AUBC of the mean curve."""
    names = [plan.subjects[place].name for place in plan.ground.test]
    return [area_under(plan.budgets, [record["test"][name] for record in records]) for name in names]


def _test_groups(plan: Plan) -> list[tuple[int, int]]:
    return [(place, plan.ground.groups[place]) for place in plan.ground.test]
