"""What most commands need: settings, the pool, and the project that is meant."""

import json
import logging
from typing import Any

from sqlalchemy import select

from maskloop_backend.cli.errors import CommandError
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project
from maskloop_learner.settings import Settings, get_settings


def start_logging(settings: Settings) -> None:
    """Log to stdout, one line a message; the supervisor adds time and process name when it collects them."""
    logging.basicConfig(level=settings.log_level, format="%(levelname)s %(name)s: %(message)s")
    # One line for every request, with its address, would bury what matters.
    for noisy in ("httpx", "httpcore", "alembic", "rq.worker"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))


def open_pool() -> Pool:
    """The installation's pool."""
    settings = get_settings()
    start_logging(settings)
    return Pool.open(settings)


def pick_project(pool: Pool, wanted: str | None, *, how: str = "choose one with --project") -> Project:
    """The project with this Label Studio id or title; the only one when none is named. `how` to name one."""
    with pool.read() as session:
        projects = session.scalars(select(Project).order_by(Project.id)).all()
    if not projects:
        raise CommandError("no project is connected yet; run `maskloop connect` or `maskloop demo` first")
    names = ", ".join(f"{p.ls_id} ({p.title})" for p in projects)
    if wanted is None:
        if len(projects) == 1:
            return projects[0]
        raise CommandError(f"several projects are connected, {how}: {names}")
    for project in projects:
        if wanted in (str(project.ls_id), project.title):
            return project
    raise CommandError(f"project {wanted!r} is not connected; connected are: {names}")


def print_json(value: Any) -> None:
    """Print `value` for a script: one JSON document on stdout."""
    print(json.dumps(value, indent=2, default=str))
