"""`maskloop up`, and the processes that it supervises."""

from enum import StrEnum
from typing import Annotated

import typer

from maskloop_backend.cli.context import start_logging
from maskloop_learner.settings import get_settings


class WorkerKind(StrEnum):
    """The two kinds of worker."""

    GPU = "gpu"
    TRAINING = "training"


class ProcessName(StrEnum):
    """The processes that a container may run."""

    WEB = "web"
    SYNC = "sync"
    GPU = "gpu"
    TRAINING = "training"


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(healthcheck)
    app.command()(up)
    app.command()(web)
    app.command()(sync)
    app.command()(worker)


def up() -> None:
    """Start everything and keep it running: web, sync, workers and Valkey. Ctrl-C ends it cleanly."""
    from maskloop_backend.services import run_services

    settings = get_settings()
    start_logging(settings)
    raise typer.Exit(run_services(settings))


def web() -> None:
    """Serve Label Studio's ML-backend protocol (one of the processes of `maskloop up`)."""
    from maskloop_backend.clients import Clients
    from maskloop_backend.web.server import serve
    from maskloop_queue.processes import die_with_parent

    die_with_parent()
    settings = get_settings()
    start_logging(settings)
    serve(settings, headers_for=Clients(settings.home).headers_for)


def sync() -> None:
    """Keep pool and Label Studio equal, and start trainings (one of the processes of `maskloop up`)."""
    from maskloop_backend.sync.loop import run_sync
    from maskloop_queue.processes import die_with_parent

    die_with_parent()
    settings = get_settings()
    start_logging(settings)
    run_sync(settings)


def worker(kind: Annotated[WorkerKind, typer.Argument(help="gpu: predicts; training: trains.")]) -> None:
    """Work off a queue. Any number of GPU workers may run, on any machine that reaches pool and Redis."""
    from maskloop_queue.workers import run_worker

    settings = get_settings()
    start_logging(settings)
    raise typer.Exit(run_worker(kind.value, settings))


def healthcheck(
    process: Annotated[ProcessName, typer.Argument(help="The process of this container or machine.")],
) -> None:
    """Exit with 0 when a process is alive: web answers, the others touched the file that MASKLOOP_BEAT names lately."""
    from maskloop_backend.healthcheck import check

    what = check(process.value, get_settings())
    print(what.said)
    raise typer.Exit(0 if what.healthy else 1)
