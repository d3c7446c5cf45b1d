"""`maskloop connect`: the tie to a project of Label Studio."""

import os
from typing import Annotated

import typer
from rich.console import Console

from maskloop_backend.cli.context import open_pool, print_json
from maskloop_backend.cli.errors import CommandError
from maskloop_backend.cli.groups import BlindOption, FieldOption, PatternOption, SourceOption
from maskloop_backend.connecting import connect_project
from maskloop_backend.grouping import Asked
from maskloop_backend.labelstudio.findings import Finding, has_problem
from maskloop_learner.settings import get_settings

MARKS = {"ok": "[green]ok[/green]", "changed": "[cyan]changed[/cyan]", "problem": "[red]problem[/red]"}


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(connect)


def connect(
    url: Annotated[str, typer.Option(help="Address of Label Studio, as this machine reaches it.")],
    project: Annotated[int, typer.Option(help="Number of the project: its address is /projects/<number>/data.")],
    token: Annotated[
        str | None,
        typer.Option(help="Personal access token or legacy token; better given as MASKLOOP_TOKEN. Kept once given."),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help='Text prompt of a label, as "Label=prompt"; may be repeated. Default: the label itself.'),
    ] = None,
    group_field: FieldOption = None,
    group_pattern: PatternOption = None,
    source_field: SourceOption = None,
    blind_share: BlindOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Connect a Label Studio project: checks and repairs all that is needed, and says what it did."""
    pool, settings = open_pool(), get_settings()
    prompts = dict(split_prompt(text) for text in prompt or [])
    token = token or os.environ.get("MASKLOOP_TOKEN")
    asked = Asked(field=group_field, pattern=group_pattern, source=source_field, blind_share=blind_share)
    connection = connect_project(pool, settings, url=url, token=token, ls_id=project, prompts=prompts, grouping=asked)
    if as_json:
        print_json([finding.as_json() for finding in connection.findings])
    else:
        show_findings(connection.findings)
    if has_problem(connection.findings):
        raise typer.Exit(1)


def split_prompt(text: str) -> tuple[str, str]:
    """ "Label=prompt" as its two parts. Raises CommandError when it has no such form."""
    label, found, prompt = text.partition("=")
    if not found or not label.strip() or not prompt.strip():
        raise CommandError(f'a prompt must look like "Tumor=tumor in a breast ultrasound", got {text!r}')
    return label.strip(), prompt.strip()


def show_findings(findings: list[Finding]) -> None:
    """Print findings for a person, one line each and the cure below."""
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        console.print(f"{MARKS[finding.level]:>8}  ", finding.what, sep="", markup=True)
        if finding.fix:
            console.print(f"          -> {finding.fix}", markup=False)
