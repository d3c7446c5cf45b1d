"""`maskloop serve`: a model written for label-studio-ml 2.x, on Maskloop's server."""

from typing import Annotated

import typer

from maskloop_backend.cli.context import start_logging
from maskloop_backend.cli.errors import CommandError
from maskloop_learner.settings import get_settings


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(serve)


def serve(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:CLASS", help="The subclass, e.g. model:NewModel or path/model.py:NewModel.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=1, max=65535, help="Port to listen on.")] = 9091,
    username: Annotated[
        str | None,
        typer.Option(
            "--basic-auth-user", envvar=["ML_SERVER_BASIC_AUTH_USER", "BASIC_AUTH_USER"], help="User name to ask for."
        ),
    ] = None,
    password: Annotated[
        str | None,
        typer.Option(
            "--basic-auth-pass",
            envvar=["ML_SERVER_BASIC_AUTH_PASS", "BASIC_AUTH_PASS"],
            help="Password to ask for; better given by the environment.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; each loads the model.")] = 1,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Calls of predict at once, per process.")] = 4,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Listen on any address without credentials.")] = False,
) -> None:
    """Serve a subclass written for label-studio-ml 2.x, which imports its base from maskloop_backend.ml_base."""
    from maskloop_backend.ml_base.loading import LoadError
    from maskloop_backend.ml_base.serve import Options, is_loopback
    from maskloop_backend.ml_base.serve import serve as run

    if bool(username) != bool(password):
        raise CommandError("give both --basic-auth-user and --basic-auth-pass, or neither")
    if username and ":" in username:
        raise CommandError(f"--basic-auth-user {username!r} has a colon in it: HTTP Basic forbids it")
    if not username and not no_auth and not is_loopback(host):
        raise CommandError(
            f"{host} can be reached from other machines: give --basic-auth-user and --basic-auth-pass, or --no-auth"
        )
    start_logging(get_settings())
    try:
        run(Options(target, host, port, username, password, workers, threads))
    except LoadError as error:
        raise CommandError(str(error)) from error
