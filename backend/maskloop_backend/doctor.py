"""Looks at every part of an installation: what is healthy, what is not, what to do. Changes nothing."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import redis
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from maskloop_backend.clients import Clients
from maskloop_backend.credentials import CredentialsError, load_credentials
from maskloop_backend.labelstudio.client import LabelStudioError
from maskloop_backend.labelstudio.connect import inspect
from maskloop_backend.labelstudio.findings import Finding
from maskloop_backend.labelstudio.tokens import TokenError
from maskloop_backend.readiness import readiness
from maskloop_backend.sync.work import new_images, waiting_tasks
from maskloop_learner.disk import measure_room
from maskloop_learner.pool.database import DatabaseError
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import answers, current_version
from maskloop_learner.pool.schema import Label, Model, Prediction, Project, Round, Task, utcnow
from maskloop_learner.pool.store import StoreError
from maskloop_learner.settings import Settings
from maskloop_learner.train.verification import mending
from maskloop_queue.connection import connect
from maskloop_queue.queues import pending_jobs
from maskloop_queue.valkey import ValkeyError

UP = "Start `maskloop up`; its log says why a process ended."
SHOWN = 5
"""Failed images that are named one by one."""


@dataclass(frozen=True)
class Section:
    """One part of the installation with what was found there."""

    name: str
    findings: list[Finding]

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


def examine(settings: Settings) -> list[Section]:
    """Look at database, store, Redis, workers, the web process and every project."""
    sections: list[Section] = []
    try:
        pool = Pool.open(settings)
    except (DatabaseError, SQLAlchemyError, OSError) as error:
        return [Section("pool", [Finding("problem", f"The pool cannot be opened: {error}", "See MASKLOOP_HOME.")])]
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("pool", lambda: _pool(pool, settings)),
        ("queue", lambda: _queue(settings)),
        ("web", lambda: _web(settings)),
    ]
    with pool.read() as session:
        projects = session.scalars(select(Project).order_by(Project.id)).all()
    for project in projects:
        checks.append((f"project {project.ls_id}", lambda project=project: _project(pool, settings, project)))  # type: ignore[misc]
    for name, check in checks:
        sections.append(Section(name, list(check())))
    if not projects:
        sections.append(Section("projects", [Finding("problem", "No project is connected", "Run `maskloop connect`.")]))
    pool.close()
    return sections


def _pool(pool: Pool, settings: Settings) -> Iterator[Finding]:
    yield Finding("ok", f"Database {pool.engine.url.render_as_string(hide_password=True)}")
    try:
        digest = pool.store.put("manifests", b"maskloop doctor was here")
        pool.store.get("manifests", digest)
    except (StoreError, OSError) as error:
        yield Finding("problem", f"The store {pool.store.url} cannot be written: {error}", "See MASKLOOP_STORE_URL.")
    else:
        yield Finding("ok", f"Store {pool.store.url} can be written and read")
    room = measure_room(settings)
    if room.is_low:
        fix = "Make room on that disk; `maskloop clean` removes what is not needed. All goes on by itself then."
        yield Finding("problem", str(room), fix)
    else:
        yield Finding("ok", f"{room.free / 1000:.1f} GB are free in {room.path}")


def _queue(settings: Settings) -> Iterator[Finding]:
    try:
        conn = connect(settings)
        conn.ping()
        jobs = pending_jobs(conn)
    except (redis.RedisError, ValkeyError) as error:
        yield Finding("problem", f"Redis cannot be reached: {error}", UP)
        return
    for name, counts in jobs.items():
        said = ", ".join(f"{count} {what}" for what, count in counts.items())
        if not counts["workers"]:
            yield Finding("problem", f"Queue {name} has no worker ({said})", UP)
        elif counts["failed"]:
            yield Finding("problem", f"Queue {name} has failed jobs ({said})", "The log of `maskloop up` says why.")
        else:
            yield Finding("ok", f"Queue {name}: {said}")


def _web(settings: Settings) -> Iterator[Finding]:
    url = settings.resolved_public_url
    try:
        credentials = load_credentials(settings.home)
        health = httpx.get(f"{url}/health", timeout=3.0)
        metrics = httpx.get(f"{url}/metrics", headers={"Authorization": credentials.header}, timeout=10.0)
    except CredentialsError as error:
        yield Finding("problem", str(error))
    except httpx.HTTPError as error:
        yield Finding("problem", f"The web process does not answer at {url}: {error}", UP)
    else:
        if health.status_code != 200 or "MedCLIPSeg" not in health.text:
            yield Finding(
                "problem", f"Something else than Maskloop answers at {url}", "Set MASKLOOP_PORT to a free port."
            )
        elif metrics.status_code != 200:
            other = "another installation runs there, or the process is older than its credentials"
            yield Finding("problem", f"The web process at {url} refuses our credentials: {other}", UP)
        else:
            yield Finding("ok", f"The web process answers at {url}")


def _project(pool: Pool, settings: Settings, project: Project) -> Iterator[Finding]:
    try:
        credentials = load_credentials(settings.home)
        found = inspect(
            Clients(settings.home).get(project.ls_url),
            project.ls_id,
            backend_url=settings.resolved_public_url,
            username=credentials.username,
            password=credentials.password,
        )
    except (TokenError, CredentialsError, LabelStudioError) as error:
        yield Finding("problem", str(error))
    else:
        yield from found.findings
        if found.interface is not None and found.interface.as_json() != project.control:
            yield Finding("problem", "The label config was changed since it was connected", "Run `maskloop connect`.")
    with pool.read() as session:
        yield from _sync(project, settings)
        yield from _images(session, project)
        yield from _labels(session, project)
        yield from _model(session, project, settings)


def _sync(project: Project, settings: Settings) -> Iterator[Finding]:
    if project.sync_error:
        yield Finding("problem", f"sync cannot go through this project: {project.sync_error}")
    elif project.looked_at is None:
        yield Finding("problem", "sync has not looked at this project yet", UP)
    else:
        age = (utcnow() - project.looked_at).total_seconds()
        late = age > 4 * settings.sync_interval + 60
        what = f"sync looked at this project {age:.0f} s ago"
        yield Finding("problem", what, UP) if late else Finding("ok", what)


def _images(session: Session, project: Project) -> Iterator[Finding]:
    mine = (Task.project_id == project.id, Task.deleted_at.is_(None))
    rows = session.execute(select(Task.state, func.count().label("count")).where(*mine).group_by(Task.state))
    counts = {state: count for state, count in rows}  # noqa: C416 - typed rows
    yield Finding("ok", f"{counts.get('ready', 0)} images are ready, {new_images(session, project.id)} to be fetched")
    failed = session.scalars(select(Task).where(*mine, Task.state == "failed").order_by(Task.ls_id)).all()
    for task in failed[:SHOWN]:
        again = "It is tried again by itself." if task.retry_at else "Replace or delete the task in Label Studio."
        yield Finding("problem", f"Task {task.ls_id}: {task.error}", again)
    if len(failed) > SHOWN:
        yield Finding("problem", f"{len(failed) - SHOWN} more tasks have images that cannot be used")
    version = current_version(session, project.id)
    if version is None:
        return
    statement = select(Task.ls_id, Prediction.error).join(Prediction, answers(Prediction, version))
    for ls_id, reason in session.execute(statement.where(*mine, Prediction.error.is_not(None)).limit(SHOWN)):
        yield Finding("problem", f"Task {ls_id}: its image could not be predicted: {reason}")


def _labels(session: Session, project: Project) -> Iterator[Finding]:
    statement = select(Label).join(Task, Task.id == Label.task_id).where(Task.project_id == project.id, Label.current)
    labels = session.scalars(statement.where(Task.deleted_at.is_(None))).all()
    usable = [label for label in labels if not label.cancelled and label.error is None]
    yield Finding("ok", f"{len(usable)} labels can be learnt from, {sum(label.cancelled for label in labels)} skipped")
    for label in [label for label in labels if label.error][:SHOWN]:
        yield Finding("problem", f"A label cannot be learnt from: {label.error}")


def _model(session: Session, project: Project, settings: Settings) -> Iterator[Finding]:
    last = session.scalar(select(Round).where(Round.project_id == project.id).order_by(Round.id.desc()).limit(1))
    if last is not None and (last.state == "failed" or (last.failures and last.ended_at is None)):
        yield Finding("problem", f"Training round {last.id} is {last.state}: {last.reason}", "See the log.")
    elif last is not None:
        yield Finding("ok", f"Training round {last.id} is {last.state}" + (f": {last.reason}" if last.reason else ""))
    version = current_version(session, project.id)
    if version is None:
        for need in readiness(session, project, settings).needs:
            yield Finding("problem" if need.blocks else "ok", need.what, need.fix)
        return
    for model in session.scalars(select(Model).where(Model.project_id == project.id, Model.fault.is_not(None))):
        yield Finding("problem", f"Model {model.id} cannot be loaded: {model.fault}", mending(model))
    models = session.scalar(select(func.count(Model.id)).where(Model.project_id == project.id))
    waiting = waiting_tasks(session, project.id, version)
    yield Finding("ok", f"{models} models; {version} should be served; {waiting} unlabelled images wait for it")
    if project.served_version != version and not waiting:
        served = project.served_version or "no version"
        yield Finding("problem", f"Label Studio still serves {served}", "It switches at the next look of sync.")
