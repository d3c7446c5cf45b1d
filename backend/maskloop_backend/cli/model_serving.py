"""`maskloop models promote`, `rollback` and `release`: which model serves, by a person's word."""

import getpass
from typing import Annotated, Any

import typer

from maskloop_backend.champions import Change, promote_model, release_champion, roll_back
from maskloop_backend.cli.awaiting import NOT_SERVED, tell_sync, wait_served
from maskloop_backend.cli.chosen import ModelArgument, pick_model
from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.cli.errors import CommandError
from maskloop_backend.cli.ranking import ProjectOption
from maskloop_backend.cli.weights import JsonOption
from maskloop_backend.outlook import Outlook
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project
from maskloop_learner.settings import get_settings

ReasonOption = Annotated[str, typer.Option(help="Why; kept in the event log.")]
WaitOption = Annotated[bool, typer.Option(help="Wait until Label Studio serves it.")]


def register(app: typer.Typer, group: typer.Typer) -> None:
    """Add this module's commands; `maskloop rollback` is `maskloop models rollback`."""
    group.command()(promote)
    group.command()(rollback)
    group.command()(release)
    app.command()(rollback)


def promote(
    model: ModelArgument,
    project: ProjectOption = None,
    reason: ReasonOption = "",
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Let the project serve one of its models. It stays until a training on newer labels passes the gate."""
    pool, settings = open_pool(), get_settings()
    chosen = pick_project(pool, project)
    found = pick_model(pool, chosen, model)
    change = promote_model(pool, chosen, found, settings, by=f"{who()} (promote command)", reason=reason)
    if not change.changed:
        told = {"model": change.model, "version": change.version, "changed": False}
        print_json(told) if as_json else print(f"Model {change.model} is the champion already.")
        return
    _follow(pool, chosen, change, wait=wait, as_json=as_json)


def rollback(
    project: ProjectOption = None,
    to: Annotated[str | None, typer.Option(help="An earlier champion; left out: the previous one.")] = None,
    reason: ReasonOption = "",
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Serve an earlier champion again, until a training on newer labels brings a better one."""
    pool, settings = open_pool(), get_settings()
    chosen = pick_project(pool, project)
    number = pick_model(pool, chosen, to).id if to is not None else None
    change = roll_back(pool, chosen, settings, by=f"{who()} (rollback command)", to=number, reason=reason)
    _follow(pool, chosen, change, wait=wait, as_json=as_json)


def release(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Unpin the champion after a promotion or rollback: a training that is under way may replace it again."""
    pool = open_pool()
    chosen = pick_project(pool, project)
    was = release_champion(pool, chosen, by=f"{who()} (release command)")
    said = "The champion is no longer pinned." if was else "The champion was not pinned."
    print_json({"released": was}) if as_json else print(said)


def who() -> str:
    """The person at the keyboard, as the system knows them."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody"


def _follow(pool: Pool, project: Project, change: Change, *, wait: bool, as_json: bool) -> None:
    model, version = change.model, change.version
    told: dict[str, Any] = {"model": model, "version": version, "changed": True, "served_after": None}
    outlook = Outlook.of(pool, project.id, version)
    listening = tell_sync(project.ls_id)
    if not as_json:
        print(f"Model {model} is the champion, as {version}. {outlook.words}")
    served = True
    if wait and listening:
        told["served_after"] = wait_served(pool, project.id, version)
        served = told["served_after"] is not None
    if as_json:
        print_json(told)
    elif not (wait and listening):
        print(f"{version} is served as soon as `maskloop up` has told Label Studio.")
    elif served:
        print(f"Label Studio serves it, {told['served_after']:.1f} s after the change.")
    if not served:
        raise CommandError(NOT_SERVED)
