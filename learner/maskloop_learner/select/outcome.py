"""What a finished simulation says: curves and areas, labels to a target, and whether a strategy beats random."""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.select.cautions import groups_of_test, warn_before, warn_flat
from maskloop_learner.select.curves import area_under, band, interval, labels_to
from maskloop_learner.select.plan import BASELINE, Plan, SimulationError, Step
from maskloop_learner.select.records import Picked, Record, read_record
from maskloop_learner.select.verdicts import LEVEL, compare

FOREGROUND = "foreground_random"
"""The harder baseline: where it is simulated, all others are compared with it too."""
SHARES = (0.95, 1.0)
"""Targets where none are given: of the Dice that random reaches with all its labels, mean over seeds."""

Results = dict[str, Any]
"""As in results.json; docs/simulate.md has every name."""
PREFIX = "against_"
"""Of the names under which a strategy's comparisons are found."""


def conclude(plan: Plan, *, targets: Sequence[float] = ()) -> Results:
    """All figures of a finished simulation. Raises SimulationError when a round is missing."""
    seeds = range(plan.seeds)
    records = {name: [_read(plan, name, seed) for seed in seeds] for name in plan.strategies}
    curves = {name: [_curve(each) for each in mine] for name, mine in records.items()}
    wanted = [(target, "given") for target in targets] or list(_targets(plan, curves[BASELINE]))
    found: dict[str, Results] = {
        name: {
            "seeds": [_seed(plan, seed, records[name][seed], wanted) for seed in seeds],
            "curve": [
                {"labels": labels, **each.to_dict()}
                for labels, each in zip(plan.budgets, band(curves[name], level=LEVEL), strict=True)
            ],
            "aubc": interval([area_under(plan.budgets, curve) for curve in curves[name]], level=LEVEL).to_dict(),
            "quality": _mean_quality(records[name]),
            "labels_to_target": [_reach(plan, curves[name], curves[BASELINE], *each) for each in wanted],
            "effort": _effort(records[name]),
        }
        for name in plan.strategies
    }
    pairs = list(_pairs(plan))
    for name, other in pairs:
        mine, theirs = (_areas(plan, records[each]) for each in (name, other))
        told = compare(mine, theirs, groups_of_test(plan), count=len(pairs))
        found[name][PREFIX + other] = told.to_dict(name, other)
    return {
        "data": _data(plan),
        "options": {**plan.determining(), "strategies": list(plan.strategies), "seeds": plan.seeds},
        "budgets": plan.budgets,
        "targets": [{"dice": target, "why": why} for target, why in wanted],
        "strategies": found,
        "verdicts": [found[name][PREFIX + other]["text"] for name, other in pairs],
        "warnings": [*warn_before(plan), *warn_flat(plan, curves[BASELINE])],
    }


def _data(plan: Plan) -> Results:
    return {
        "images": len(plan.subjects),
        "pool": len(plan.ground.pool),
        "test": len(plan.ground.test),
        "groups": len({g if g >= 0 else -1 - place for place, g in enumerate(plan.ground.groups)}),
        "labels": dict(plan.prompts),
    }


def _pairs(plan: Plan) -> Iterator[tuple[str, str]]:
    """Who is compared with whom."""
    for other in (BASELINE, FOREGROUND):
        if other in plan.strategies:
            yield from ((name, other) for name in plan.strategies if name not in (BASELINE, other))


def _targets(plan: Plan, random: Sequence[Sequence[float]]) -> Iterator[tuple[float, str]]:
    # As the mean curve is reckoned, to the last bit: it must reach its own end.
    end = float(np.mean(random, axis=0)[-1])
    for share in SHARES:
        yield share * end, f"{share:.0%} of what random reaches with {plan.budgets[-1]} labels"


def _curve(records: Sequence[Record]) -> list[float]:
    return [fmean(record["test"].values()) for record in records]


def _read(plan: Plan, strategy: str, seed: int) -> list[Record]:
    steps = [*plan.before(last := Step(seed, strategy, plan.rounds)), last]
    found = []
    for step in steps:
        record = read_record(plan, step)
        if record is None:
            raise SimulationError(f"{step.name} is not finished; run the simulation again")
        found.append(record)
    return found


def _seed(plan: Plan, seed: int, records: Sequence[Record], targets: Sequence[tuple[float, str]]) -> Results:
    """One campaign, round by round."""
    curve, batches = _curve(records), _batches(records)
    return {
        "seed": seed,
        "dice": curve,
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


def _batches(records: Sequence[Record]) -> list[list[Picked]]:
    """What one campaign chose, round by round."""
    return [record["picks"][records[-1]["strategy"]] for record in records[:-1]]


def _effort(campaigns: Sequence[Sequence[Record]]) -> dict[str, float]:
    """What labelling a chosen image was like, on average over all batches and seeds."""
    chosen = [each for records in campaigns for batch in _batches(records) for each in batch]
    return {"pixels": fmean(each["pixels"] for each in chosen), "parts": fmean(each["parts"] for each in chosen)}


def _reach(
    plan: Plan, curves: Sequence[Sequence[float]], random: Sequence[Sequence[float]], target: float, why: str
) -> Results:
    """Labels to a target: of the mean curve, and of the seeds' own beside random's."""
    own, theirs = ([labels_to(target, plan.budgets, curve) for curve in each] for each in (curves, random))
    mean, base = (labels_to(target, plan.budgets, np.mean(each, axis=0)) for each in (curves, random))
    costs, baselines = ([math.inf if each is None else each for each in some] for some in (own, theirs))
    middle = median(costs)
    return {
        "dice": target,
        "why": why,
        "labels": mean,
        "saved": None if mean is None or base is None else base - mean,
        "median": None if math.isinf(middle) else middle,
        "reached": sum(each is not None for each in own),
        "sooner": sum(mine < other for mine, other in zip(costs, baselines, strict=True)),
        "later": sum(mine > other for mine, other in zip(costs, baselines, strict=True)),
    }


def _areas(plan: Plan, campaigns: Sequence[Sequence[Record]]) -> NDArray[np.float64]:
    """[S, I] AUBC of each test image's own curve by seed; their mean over images is the AUBC of the seed's curve."""
    names = [plan.subjects[place].name for place in plan.ground.test]
    return np.array(
        [
            [area_under(plan.budgets, [record["test"][name] for record in records]) for name in names]
            for records in campaigns
        ]
    )
