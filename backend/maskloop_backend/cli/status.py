"""`maskloop doctor`: what is healthy, what is not, what to do; `maskloop status`: how far every project is."""

from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy import select

from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.cli.projects import show_findings
from maskloop_backend.cli.ranking import ProjectOption
from maskloop_backend.doctor import examine
from maskloop_backend.labelstudio.findings import has_problem
from maskloop_backend.readiness import Readiness, readiness
from maskloop_learner.pool.schema import Project
from maskloop_learner.settings import get_settings


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(doctor)
    app.command()(status)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False) -> None:
    """Check every part and say what to do; exit code 0 only when all is healthy."""
    sections = examine(get_settings())
    healthy = not any(has_problem(section.findings) for section in sections)
    if as_json:
        print_json({"healthy": healthy, "sections": [section.as_json() for section in sections]})
    else:
        console = Console(highlight=False)
        for section in sections:
            console.print(f"\n[bold]{section.name}[/bold]")
            show_findings(section.findings)
        console.print("\n[green]All is healthy.[/green]" if healthy else "\n[red]Something needs care.[/red]")
    raise typer.Exit(0 if healthy else 1)


def status(
    project: ProjectOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Say of every project what is served, how many labels there are and are missing, and the next step."""
    pool, settings = open_pool(), get_settings()
    named = pick_project(pool, project).id if project is not None else None
    with pool.read() as session:
        rows = session.scalars(select(Project).order_by(Project.ls_id)).all()
        found = [readiness(session, row, settings) for row in rows if named in (None, row.id)]
    if as_json:
        print_json([each.as_json() for each in found])
        return
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for each in found:
        console.print("\n".join(describe(each)), end="\n\n")
    if not found:
        console.print("No project is connected yet; run `maskloop connect` or `maskloop demo`.")


def describe(found: Readiness) -> list[str]:
    """A project's state in a few lines."""
    origin = f", imported from {found.checkpoint}" if found.checkpoint and found.served == found.version else ""
    first = f", batch {found.batch} first" if found.batch is not None else ""
    served = f"{found.served}{origin}{first}" if found.served else f"no masks, tasks {found.order}"
    waits = "when somebody asks for it" if found.labels_missing is None else f"after {found.labels_missing} more labels"
    training = found.training or ("when no label has come for a moment" if found.labels_missing == 0 else waits)
    if found.paused_at is not None:
        paused = f"the schedule is paused since {found.paused_at:%Y-%m-%d %H:%M} UTC by {found.paused_by}"
        training = f"{found.training}; {paused}" if found.training else f"when somebody asks for it: {paused}"
    return [
        f"Project {found.project}: {found.title}",
        f"  served         {served}",
        f"  images         {found.images_ready} ready, {found.images_waiting} to be fetched, "
        f"{found.images_failed} failed",
        f"  labels         {found.labels} to learn from, {found.labels_new} new since the last training",
        f"  next training  {training}",
        *(f"  missing        {need.what}" for need in found.needs),
        f"  next step      {found.next_step}",
    ]
