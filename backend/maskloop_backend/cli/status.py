"""`maskloop doctor`: what is healthy, what is not, what to do."""

from typing import Annotated

import typer
from rich.console import Console

from maskloop_backend.cli.context import print_json
from maskloop_backend.cli.projects import show_findings
from maskloop_backend.doctor import examine
from maskloop_backend.labelstudio.findings import has_problem
from maskloop_learner.settings import get_settings


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(doctor)


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
