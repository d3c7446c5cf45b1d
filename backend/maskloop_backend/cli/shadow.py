"""`maskloop models shadow`: the model that waits beside the champion, and how both do on what was labelled since."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.cli.ranking import ProjectOption
from maskloop_learner.pool.schema import Model
from maskloop_learner.settings import get_settings
from maskloop_learner.train.gate import Decision, table_rows
from maskloop_learner.train.shadow import ShadowReport, report_shadow

COLUMNS = ("images of", "number", "champion", "in shadow", "difference", "")


def register(group: typer.Typer) -> None:
    """Add this module's command to `maskloop models`."""
    group.command()(shadow)


def shadow(
    project: ProjectOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Compare the model that waits in shadow with the champion: on the validation set, and on new labels."""
    from maskloop_queue.contest import rules_of

    pool, settings = open_pool(), get_settings()
    chosen = pick_project(pool, project)
    report = report_shadow(pool, chosen.id, settings, rules_of(settings))
    if report is None:
        print_json(None) if as_json else print(f"{chosen.title}: no model waits in shadow.")
        return
    with pool.read() as session:
        told = session.get_one(Model, report.model_id).metrics.get("gate")
    gate = Decision.from_dict(told) if told else None
    if as_json:
        print_json(report_json(report, gate))
        return
    console = Console(highlight=False)
    console.print(f"{chosen.title}: model {report.model_id} is in shadow since {report.since:%Y-%m-%d %H:%M} UTC.")
    if gate is not None:
        console.print(draw_table("On the validation set", gate), gate.reason, end="\n\n")
    if not report.decision.images:
        console.print(f"No image that was labelled since is predicted by both yet ({report.waiting} wait).")
    else:
        console.print(draw_table(f"On images labelled since ({report.waiting} more wait)", report.decision))
        console.print("Where a label was corrected from the champion's mask, it favours the champion.")
        if report.blind is not None:
            console.print(draw_table("Of these, annotated without a mask shown", report.blind))
    console.print(f"To serve it: maskloop models promote {report.model_id} --project {chosen.ls_id}")


def draw_table(title: str, decision: Decision) -> Table:
    """A decision's figures."""
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if 0 < place < len(COLUMNS) - 1 else "left")
    for row in table_rows(decision):
        table.add_row(*row)
    return table


def report_json(report: ShadowReport, gate: Decision | None) -> dict[str, object]:
    """The same for a script."""
    return {
        "model": report.model_id,
        "since": report.since.isoformat(),
        "waiting": report.waiting,
        "validation": gate.to_dict() if gate else None,
        "since_then": report.decision.to_dict(),
        "blind": report.blind.to_dict() if report.blind else None,
    }
