"""The paper's two protocols, without the learning: which trainings and tests there are, and the table of them.

    data efficiency         train on 10, 25, 50 and 100 % of one data set, test each on its whole test split
    domain generalisation   train on one data set, test on it (ID) and on others that it never saw (OOD)

arXiv 2602.20423, section 4. Every cell is kept in a file of its own, so a run that was ended goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

from maskloop_learner.data.layout import Dataset, Item, Part, Split, Variant
from maskloop_learner.evaluate.cells import Cells, ProtocolError, Say, Weights

Train = Callable[[Sequence[Item], str], bytes]
"""(items to learn from, name of the training) -> weights."""
Test = Callable[[bytes, Sequence[Item], str], Mapping[str, Any]]
"""(weights, items, name of the test) -> figures for JSON; `dice` among them is a mean, 0..1."""


@dataclass(frozen=True)
class Cell:
    """One test of one training."""

    training: str
    """As in the table: `10 %` or the data set's name."""
    dataset: str
    prompts: Variant
    figures: Mapping[str, Any]

    @property
    def dice(self) -> float:
        """Mean Dice, 0..1."""
        return float(self.figures["dice"])

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"training": self.training, "dataset": self.dataset, "prompts": self.prompts, **self.figures}


def run_efficiency(
    dataset: Dataset,
    *,
    percentages: Sequence[int],
    variants: Sequence[Variant],
    cells: Cells,
    train: Train,
    test: Test,
    say: Say = lambda step: None,
) -> list[Cell]:
    """Train on each share, test it on its validation rows and, once for each variant, on the test split.

    `say` is told what comes next. Raises ProtocolError when a sheet gives nothing to learn from or to test on.
    """
    tests = {variant: usable(dataset, "test", prompts=variant) for variant in variants}
    lessons = {percent: usable(dataset, "train", percent=percent) for percent in percentages}
    found = []
    for percent, lesson in lessons.items():
        name = f"{dataset.name} {percent} %"
        weights = cells.weights(name, lesson.items, partial(train, lesson.items, name), say=say)
        run = partial(_run, cells, weights, test, say)
        # Some published data sets have no validation rows.
        held_out = dataset.read("val", percent=percent).items
        validation = run(f"{name} validation", held_out)["dice"] if held_out else None
        for variant, part in tests.items():
            told = {"learnt": len(lesson.items), "validation_dice": validation}
            told |= run(f"{name} {variant}", part.items)
            found.append(Cell(f"{percent} %", dataset.name, variant, told))
    return found


def run_generalisation(
    source: Dataset,
    targets: Sequence[Dataset],
    *,
    variants: Sequence[Variant],
    cells: Cells,
    train: Train,
    test: Test,
    say: Say = lambda step: None,
) -> list[Cell]:
    """Train on the source, test on it and on every target, once for each variant.

    Raises ProtocolError without a target, for two data sets of one name, and as `run_efficiency` does.
    """
    names = [dataset.name for dataset in (source, *targets)]
    if not targets or len(set(names)) < len(names):
        raise ProtocolError(f"one source and targets of other names are needed, got {', '.join(names)}")
    tests = {
        (each.name, variant): usable(each, "test", prompts=variant)
        for each in (source, *targets)
        for variant in variants
    }
    lesson = usable(source, "train").items
    weights = cells.weights(source.name, lesson, partial(train, lesson, source.name), say=say)
    found = []
    for (target, variant), part in tests.items():
        name = f"{source.name} on {target}, {variant}"
        figures = _run(cells, weights, test, say, name, part.items)
        found.append(Cell(source.name, target, variant, {"learnt": len(lesson), **figures}))
    return found


def harmonic_mean(first: float, second: float) -> float:
    """2 ab / (a + b) of two numbers in 0..1: near the lesser; 0 when both are 0. Raises ValueError outside 0..1."""
    if not (0 <= first <= 1 and 0 <= second <= 1):
        raise ValueError(f"a harmonic mean of Dice needs numbers in 0..1, got {first!r} and {second!r}")
    return 2 * first * second / (first + second) if first + second else 0.0


def generalisation(cells: Sequence[Cell], *, source: str, variant: Variant) -> dict[str, float]:
    """ID Dice, mean OOD Dice and their harmonic mean, 0..1. Raises ValueError without a cell of either kind."""
    chosen = [cell for cell in cells if cell.prompts == variant]
    inside = [cell.dice for cell in chosen if cell.dataset == source]
    outside = [cell.dice for cell in chosen if cell.dataset != source]
    if len(inside) != 1 or not outside:
        raise ValueError(f"one ID cell and some OOD cells are needed, got {len(inside)} and {len(outside)}")
    ood = fmean(outside)
    return {"id": inside[0], "ood": ood, "hm": harmonic_mean(inside[0], ood)}


def usable(dataset: Dataset, split: Split, *, prompts: Variant = "original", percent: int = 100) -> Part:
    """A part with at least one item. Raises ProtocolError saying why it has none."""
    part = dataset.read(split, prompts=prompts, percent=percent)
    if not part.items:
        why = part.findings[0].message if part.findings else "the sheet has no rows"
        raise ProtocolError(f"{part.sheet.path}: no image of it can be used ({why})")
    return part


def _run(cells: Cells, weights: Weights, test: Test, say: Say, name: str, items: Sequence[Item]) -> dict[str, Any]:
    return cells.figures(name, items, weights, lambda data: test(data, items, name), say=say)
