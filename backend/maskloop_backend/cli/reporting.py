"""`maskloop report`: a project's state as one HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.report.writing import check_target, default_name, write_report
from maskloop_learner.pool.schema import utcnow
from maskloop_learner.settings import get_settings


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(report)


def report(
    project: Annotated[
        str | None, typer.Argument(help="Label Studio id or title of the project; may be left out where there is one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file; maskloop-report-PROJECT-DATE.html in this folder when left out.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file even if it is no report of Maskloop.")
    ] = False,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Call the annotators annotator 1, annotator 2 and so on.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Write a project's state as one HTML file for a meeting: progress, model, batches, annotators, next images.

    It needs nothing else: no server, no internet. Printed, it fits A4. It shows images of the project.
    """
    from maskloop_backend.report.page import make_report  # brings the dashboard's templates along

    pool, settings, now = open_pool(), get_settings(), utcnow()
    chosen = pick_project(pool, project, how="name one")
    path = out if out is not None else Path(default_name(chosen.ls_id, now))
    check_target(path, force=force)
    text = make_report(pool, settings, chosen.id, now=now, anonymous=anonymous)
    size = write_report(path, text, force=force)
    if as_json:
        print_json({"project": chosen.ls_id, "file": str(path.absolute()), "bytes": size})
    else:
        print(f"{path.absolute()}: the state of {chosen.title or f'project {chosen.ls_id}'}, {size / 1000:,.0f} kB")
