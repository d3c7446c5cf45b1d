"""The protocols' tables in Markdown; Dice in percent, as the paper prints it."""

from collections.abc import Sequence

from maskloop_learner.evaluate.protocols import Cell, generalisation


def efficiency_table(cells: Sequence[Cell]) -> str:
    """A line for each variant of the prompts, a column for each share of the training rows."""
    shares = list(dict.fromkeys(cell.training for cell in cells))
    found = {(cell.prompts, cell.training): cell for cell in cells}
    variants = dict.fromkeys(cell.prompts for cell in cells)
    head = [f"{share} ({next(c for c in cells if c.training == share).figures['learnt']} images)" for share in shares]
    lines = [[variant, *(percent(found[variant, share].dice) for share in shares)] for variant in variants]
    return table(["test prompts", *head], lines)


def generalisation_table(cells: Sequence[Cell], *, source: str) -> str:
    """A line for each variant: the source (ID), every target, the targets' mean (OOD) and the harmonic mean (HM)."""
    targets = list(dict.fromkeys(cell.dataset for cell in cells if cell.dataset != source))
    found = {(cell.prompts, cell.dataset): cell for cell in cells}
    lines = []
    for variant in dict.fromkeys(cell.prompts for cell in cells):
        means = generalisation(cells, source=source, variant=variant)
        each = [percent(found[variant, name].dice) for name in targets]
        lines.append([variant, percent(means["id"]), *each, percent(means["ood"]), percent(means["hm"])])
    return table(["test prompts", f"ID: {source}", *targets, "OOD", "HM"], lines)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, first column to the left."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "".join("| " + " | ".join(_cell(text) for text in line) + " |\n" for line in (head, rule, *lines))


def percent(dice: float) -> str:
    """0.81104 as `81.10`."""
    return f"{100 * dice:.2f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
