"""`maskloop pause` and `maskloop resume`: whether labels and the clock start trainings."""

from typing import Annotated

import typer

from maskloop_backend.cli.awaiting import tell_sync
from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_queue.pause import pause_schedule, resume_schedule

ProjectArgument = Annotated[
    str | None, typer.Argument(metavar="PROJECT", help="Label Studio id or title; may be left out when there is one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(pause)
    app.command()(resume)


def pause(project: ProjectArgument = None, as_json: JsonOption = False) -> None:
    """Have neither labels nor the clock start a training; `maskloop train` still does, and what runs goes on."""
    pool = open_pool()
    chosen = pick_project(pool, project)
    changed = pause_schedule(pool, chosen.id, by="the pause command")
    if as_json:
        print_json({"project": chosen.ls_id, "paused": True, "changed": changed})
    elif changed:
        print(f"The schedule of project {chosen.ls_id} ({chosen.title}) is paused; `maskloop resume` ends that.")
    else:
        print(f"The schedule of project {chosen.ls_id} ({chosen.title}) was paused already.")


def resume(project: ProjectArgument = None, as_json: JsonOption = False) -> None:
    """Have labels and the clock start trainings again; what became due during the pause starts at once."""
    pool = open_pool()
    chosen = pick_project(pool, project)
    changed = resume_schedule(pool, chosen.id, by="the resume command")
    tell_sync(chosen.ls_id)
    if as_json:
        print_json({"project": chosen.ls_id, "paused": False, "changed": changed})
    elif changed:
        print(f"Labels and the clock start trainings of project {chosen.ls_id} ({chosen.title}) again.")
    else:
        print(f"The schedule of project {chosen.ls_id} ({chosen.title}) was not paused.")
