"""`maskloop dashboard-user`: a password for people who only look."""

from typing import Annotated

import typer

from maskloop_backend.cli.context import print_json
from maskloop_backend.cli.errors import CommandError
from maskloop_backend.credentials import READER, add_reader, remove_reader
from maskloop_learner.settings import get_settings


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(name="dashboard-user")(dashboard_user)


def dashboard_user(
    read_only: Annotated[bool, typer.Option("--read-only", help="Make the reader's password, a new one.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the reader away.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Make or remove the dashboard's reader, who sees everything and changes nothing.

    The project lead's own password is in credentials.json in the home folder.
    """
    settings = get_settings()
    if read_only == remove:
        raise CommandError("say what is to be done: --read-only makes the reader's password, --remove takes it away")
    if remove:
        was = remove_reader(settings.home)
        said = "The reader is gone, and its sessions have ended." if was else "There was no reader."
        print_json({"removed": was}) if as_json else print(said)
        return
    password = add_reader(settings.home)
    address = f"{settings.resolved_browser_url}/login#token={password}"
    if as_json:
        print_json({"username": READER, "password": password, "address": address})
    else:
        print(f"User: {READER}\nPassword: {password}\nOr open: {address}")
        print("It is shown once. A password from before does not count any more.")
