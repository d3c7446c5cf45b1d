"""`maskloop models show` and `diff`: all that is known of a model, and what differs between two."""

from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from maskloop_backend.cli.chosen import ModelArgument, pick_model
from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.cli.ranking import ProjectOption
from maskloop_backend.cli.weights import JsonOption
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
    if rows := slice_rows(found["decision"]):
        console.print(slice_table(rows))


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
    for part in ("about", "config", "metrics"):
        for name, (old, new) in found[part].items():
            change = f"  ({new - old:+.4g})" if _numbers(old, new) else ""
            console.print(f"  {part + ' ' if part != 'about' else ''}{name}: {_say(old)} -> {_say(new)}{change}")
    learnt = found["snapshot"]
    for what in ("added", "removed", "changed"):
        if names := learnt[what]:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            console.print(f"  images {what}: {len(names)} ({', '.join(names[:5])}{more})")
    if learnt["unknown"]:
        console.print(f"  images: {learnt['unknown']}")


def describe(found: dict[str, Any]) -> Iterator[str]:
    """A model's dossier in lines."""
    state = ", ".join(found["is"]) or "not served"
    yield f"Model {found['model']} of project {found['project']}: {state}"
    yield f"  made           {found['created_at'][:19]} by {found['made_by'] or 'an earlier release'}"
    yield f"  draws          {', '.join(found['labels'])}"
    yield f"  backbone       {found['backbone']}" + (f" over towers {found['base']}" if found["base"] else "")
    yield f"  weights        {found['weights']}" + (f", {found['bytes']} bytes" if found["bytes"] else "")
    yield f"  manifest       {found['manifest'] or 'none: made by an earlier release'}"
    code = found["code"]
    yield f"  code           Maskloop {code.get('maskloop')}, commit {code.get('commit')}, torch {code.get('torch')}"
    if found["fault"]:
        yield f"  broken         {found['fault']}"
    if found["parents"]:
        yield f"  comes after    {' <- '.join(str(number) for number in found['parents'])}"
    if (learnt := found["snapshot"]) is not None:
        yield f"  learnt from    snapshot {learnt['id']}: " + (
            learnt["unknown"] or f"{learnt['train']} images, {learnt['validation']} kept for validation"
        )
    yield from (f"  {label:<14} Dice {value:.3f}" for label, value in found["dice"].items())
    yield from (f"  {label:<14} ECE {each['ece']:.3f}" for label, each in found["calibration"].items())
    yield from (f"  {key:<14} {_say(value)}" for key, value in found["config"].items() if key != "settings")
    if found["reason"]:
        yield f"  gate           {found['state'] or 'decided'}: {found['reason']}"
    for version in found["versions"]:
        yield f"  predicts as    {version['id']} ({version['predictions']} images)"
    for change in found["history"]:
        pin = ", pinned" if change["pinned"] else ""
        why = f": {change['reason']}" if change["reason"] else ""
        yield f"  {change['at'][:19]}  {change['what']} by {change['by']} (fence {change['fence']}{pin}){why}"


def slice_rows(decision: dict[str, Any]) -> list[tuple[str, ...]]:
    """The gate's table: part, images, champion, challenger, difference, verdict."""
    rows: list[tuple[str, ...]] = []
    for each in decision.get("slices") or []:
        verdict = ("ok" if each.get("passed") else "worse") if each.get("counted") else "too few to count"
        old, new = each["champion"], each["challenger"]
        name = f"{each['kind']} {each['name']}"
        rows.append((name, str(each["images"]), f"{old:.3f}", f"{new:.3f}", f"{new - old:+.3f}", verdict))
    return rows


def slice_table(rows: list[tuple[str, ...]]) -> Table:
    """For the console."""
    table = Table(title="The gate's comparison, Dice")
    for name in ("part", "images", "champion", "challenger", "difference", ""):
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    return table


def _numbers(*values: object) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _say(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)
