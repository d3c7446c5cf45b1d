"""All that a simulation does, before it is done: what it works on, how often, and where each round's record lies."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskloop_learner.data.layout import Item
from maskloop_learner.evaluate.cells import digest_items, file_name
from maskloop_learner.select.ground import Ground
from maskloop_learner.select.labelled import Subject
from maskloop_learner.select.options import Options
from maskloop_learner.select.oracle import Oracle
from maskloop_learner.select.strategies import read_strategy

BASELINE = "random"
"""The strategy that every other is compared with."""
SPREADS = ("mutual_information", "variance")
"""Measures of how samples differ."""


class SimulationError(RuntimeError):
    """A simulation that cannot be run as asked, or cannot go on; the message says why and what to do."""


@dataclass(frozen=True, order=True)
class Step:
    """One training of the grid. Round 0 is shared by all strategies of a seed: nothing has been chosen yet."""

    seed: int
    strategy: str
    """"" in round 0."""
    number: int

    @property
    def name(self) -> str:
        """For messages."""
        return f"seed {self.seed}, {self.strategy or 'first labels'}, round {self.number}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """See `maskloop simulate`. Raises SimulationError or ChoosingError for one that cannot work."""

    folder: Path
    subjects: tuple[Subject, ...]
    ground: Ground
    prompts: Mapping[str, str]
    """Label -> what is asked where an image has no prompt of its own."""
    strategies: tuple[str, ...]
    """As `read_strategy` reads them, the baseline first."""
    seeds: int
    rounds: int
    """After round 0."""
    batch: int
    first: int
    """Labels before the first choice."""
    random_share: float
    """Of each batch, that strategies leave to the lot, 0..1."""
    oracle: Oracle
    learning: Mapping[str, Any]
    """Of `train`: backbone, steps, batch, augmentation (a modality), patience, precision."""
    predicting: Mapping[str, Any]
    """Of `Predictor.predict`: samples, method, threshold, min_speck_area, max_hole_area."""
    device: str
    bases: Path
    """Folder of published backbones."""

    def __post_init__(self) -> None:
        Options(random_share=self.random_share)
        for strategy in self.strategies:
            self._check_score(strategy)
        size, wanted = len(self.ground.pool), self.first + self.rounds * self.batch
        if min(self.seeds, self.rounds, self.batch, self.first) < 1:
            raise SimulationError("seeds, rounds, batch and first labels must be 1 or more")
        if wanted > size:
            most = (size - self.first) // self.batch
            advice = f"take at most {most} rounds" if most > 0 else "take smaller batches or fewer first labels"
            raise SimulationError(
                f"{self.first} first labels and {self.rounds} rounds of {self.batch} are {wanted} images, but the pool "
                f"has {size} ({len(self.ground.test)} of {len(self.subjects)} test): {advice}"
            )

    def _check_score(self, strategy: str) -> None:
        measure = read_strategy(strategy).score.partition("/")[0]
        method, samples = self.predicting["method"], self.predicting["samples"]
        if measure in SPREADS and (method == "mean-value" or samples == 1):
            raise SimulationError(
                f"the strategy {strategy!r} ranks by {measure}, which is 0 in a single pass: take --method monte-carlo "
                "and --samples 10 or so"
            )

    @property
    def budgets(self) -> list[int]:
        """Labels learnt from in each round, round 0 first."""
        return [self.first + number * self.batch for number in range(self.rounds + 1)]

    def steps(self) -> Iterator[Step]:
        """All of them, each after those it builds on."""
        for seed in range(self.seeds):
            yield Step(seed, "", 0)
        for number in range(1, self.rounds + 1):
            for seed in range(self.seeds):
                for strategy in self.strategies:
                    yield Step(seed, strategy, number)

    def before(self, step: Step) -> list[Step]:
        """What a step builds on, the earliest first."""
        if step.number == 0:
            return []
        return [Step(step.seed, "", 0), *(Step(step.seed, step.strategy, n) for n in range(1, step.number))]

    def record(self, step: Step) -> Path:
        """Where a step's figures and choices are kept."""
        name = "first.json" if step.number == 0 else f"{file_name(step.strategy)}/{step.number:03}.json"
        return self.folder / "rounds" / f"seed-{step.seed}" / name

    def determining(self) -> dict[str, Any]:
        """What the rounds in one folder must share. More strategies and seeds may come later.

        More rounds may not: the noise of some strategies follows a schedule over all of them.
        """
        return {
            "images": self.digest(),
            "labels": dict(self.prompts),
            "test": len(self.ground.test),
            "rounds": self.rounds,
            "batch": self.batch,
            "first": self.first,
            "random_share": self.random_share,
            "oracle": str(self.oracle),
            "learning": dict(self.learning),
            "predicting": dict(self.predicting),
        }

    def digest(self) -> str:
        """Another when images, masks, prompts or groups were added, removed or changed; of files the size counts."""
        items: list[Item] = [item for subject in self.subjects for item in subject.items()]
        parts = [digest_items(items), repr(self.ground.groups), repr(self.ground.test)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
