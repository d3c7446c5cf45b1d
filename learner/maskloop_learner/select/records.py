"""What a finished round leaves on disk: one file, written whole or not at all, and all that the next round needs."""

from typing import Any, NotRequired, TypedDict

from maskloop_learner.evaluate.cells import read_json
from maskloop_learner.select.plan import Plan, Step


class Picked(TypedDict):
    """An image that was chosen, and what labelling it was like."""

    name: str
    slot: str
    score: float | None
    reason: str
    figures: dict[str, Any]
    pixels: int
    """Inside the drawn masks."""
    parts: int
    """Connected parts of the drawn masks."""
    drawn: NotRequired[dict[str, str]]
    """Label -> PNG in base 64, where it is not the truth."""


class Record(TypedDict):
    """What a round leaves."""

    seed: int
    strategy: str
    round: int
    labels: int
    test: dict[str, float]
    """Name -> Dice, of the frozen test images."""
    quality: dict[str, Any]
    """Of the uncertainty, over the same images."""
    picks: dict[str, list[Picked]]
    """Strategy -> what it chose next; in round 0 of all strategies."""
    seconds: float


def read_record(plan: Plan, step: Step) -> Record | None:
    """A finished round; None when it is not finished, or was finished before a strategy was added."""
    found = read_json(plan.record(step))
    if found is None or not set(choosers(plan, step)) <= set(found["picks"]):
        return None
    record: Record = found  # type: ignore[assignment]
    return record


def choosers(plan: Plan, step: Step) -> tuple[str, ...]:
    """The strategies that choose after a step: none after the last round."""
    if step.number == plan.rounds:
        return ()
    return (step.strategy,) if step.strategy else plan.strategies
