"""`maskloop models show` and `diff`: all that is known of a model, and what differs between two."""

from collections.abc import Iterator, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from maskloop_backend.cli.chosen import ModelArgument, pick_model
from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.cli.ranking import ProjectOption
from maskloop_backend.cli.weights import JsonOption
from maskloop_backend.overview.model import (
    Comparison,
    read_comparisons,
    tell_differences,
    tell_facts,
    tell_images,
)
from maskloop_learner.train.comparison import compare_models
from maskloop_learner.train.dossier import read_dossier


def register(group: typer.Typer) -> None:
    """Add this module's commands to `maskloop models`."""
    group.command()(show)
    group.command()(diff)


def show(model: ModelArgument = "champion", project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Show a model: figures, the gate's decision, where it comes from, what it learnt from, when it served."""
    pool = open_pool()
    chosen = pick_project(pool, project)
    found = read_dossier(pool, pick_model(pool, chosen, model).id)
    if as_json:
        print_json(found)
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print("\n".join(describe(found)))
    if rows := list(read_comparisons(found["decision"])):
        console.print(gate_table(rows))


def diff(
    first: ModelArgument, second: ModelArgument, project: ProjectOption = None, as_json: JsonOption = False
) -> None:
    """Show what differs between two models: configuration, labels, what they learnt from, figures."""
    pool = open_pool()
    chosen = pick_project(pool, project)
    a, b = (pick_model(pool, chosen, number).id for number in (first, second))
    found = compare_models(pool, a, b)
    if as_json:
        print_json(found)
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"Model {a} -> model {b}")
    for each in tell_differences(found):
        console.print(f"  {each.name}: {each.before} -> {each.after}" + (f"  ({each.change})" if each.change else ""))
    for sentence in tell_images(found["snapshot"]):
        console.print(f"  {sentence}")


def describe(found: dict[str, Any]) -> Iterator[str]:
    """A model's dossier in lines."""
    state = ", ".join(found["is"]) or "not served"
    yield f"Model {found['model']} of project {found['project']}: {state}"
    yield from (f"  {name:<14} {words}" for name, words in tell_facts(found))
    for change in found["history"]:
        pin = ", pinned" if change["pinned"] else ""
        why = f": {change['reason']}" if change["reason"] else ""
        yield f"  {change['at'][:19]}  {change['what']} by {change['by']} (fence {change['fence']}{pin}){why}"


def gate_table(rows: Sequence[Comparison]) -> Table:
    """For the console."""
    table = Table(title="The gate's comparison, Dice")
    for name in ("part", "images", "champion", "challenger", "difference", ""):
        table.add_column(name)
    for each in rows:
        figures = (f"{each.champion:.3f}", f"{each.challenger:.3f}", f"{each.difference:+.3f}")
        table.add_row(each.part, "" if each.images is None else str(each.images), *figures, each.verdict)
    return table
