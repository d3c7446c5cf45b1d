"""The page of work: what runs, waits and failed, and a person's hand on it: train, pause, resume, cancel."""

from collections.abc import Callable, Mapping

import redis
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from maskloop_backend.cancelling import NothingToCancel, cancel_training
from maskloop_backend.overview.queues import Queues, read_queues
from maskloop_backend.overview.work import Work, read_work
from maskloop_backend.readiness import count
from maskloop_backend.web.dashboard.desk import Desk, Entry
from maskloop_backend.web.dashboard.forms import read_form
from maskloop_backend.web.dashboard.kept import Kept
from maskloop_backend.web.errors import WebError
from maskloop_learner.pool.schema import Project
from maskloop_queue.connection import connect
from maskloop_queue.pause import pause_schedule, resume_schedule
from maskloop_queue.triggers import RoundChanged, active_round, request_training
from maskloop_queue.valkey import ValkeyError
from maskloop_queue.wake import wake

ENTRY = Entry("Work", "/work")
BY = "the dashboard"
PATIENCE = 0.1
"""Seconds for which a lost Redis is tried again by a look: the next one comes soon."""
NO_PROJECT = "Run `maskloop connect` or `maskloop demo`."
Fields = Mapping[str, str]
Action = Callable[[Desk, Project, Fields], str]
"""Does what a button with its fields says, and tells what came of it."""


def make_router(desk: Desk) -> APIRouter:
    """The routes /work, /work/live for the page that looks again, and one for each button."""
    router = APIRouter()
    looking = connect(desk.settings, patience=PATIENCE)
    queues: Kept[Queues] = Kept()
    works: Kept[Work] = Kept()

    def look(project: Project) -> Work:
        def make() -> Work:
            found = queues.get("all", lambda: read_queues(looking))
            with desk.pool.read() as session:
                return read_work(session, session.get_one(Project, project.id), desk.settings, found)

        return works.get(project.id, make)

    def show(request: Request, template: str, wanted: str | None, told: str = "") -> Response:
        projects = desk.projects()
        project = desk.pick(projects, wanted)
        if project is None:
            if template == "work_live.html":
                raise WebError(404, "no project is connected yet", fix=NO_PROJECT)
            return desk.show(request, "work_none.html", entry=ENTRY, projects=projects)
        work = look(project)
        number = work.training.round if work.training is not None else 0
        state = f"{work.ahead.paused_at is not None:d}{work.can_be_cancelled:d}{number}"
        return desk.show(
            request,
            template,
            entry=ENTRY,
            projects=projects,
            project=project,
            work=work,
            lease=desk.settings.worker_lease,
            state=state,
            moved=bool(told) or request.query_params.get("shown", state) != state,
            told=told,
        )

    @router.get("/work")
    async def page(request: Request) -> Response:
        return await desk.threads.run(lambda: show(request, "work.html", request.query_params.get("project")))

    @router.get("/work/live")
    async def live(request: Request) -> Response:
        return await desk.threads.run(lambda: show(request, "work_live.html", request.query_params.get("project")))

    def add(name: str, act: Action) -> None:
        @router.post(f"/work/{name}")
        async def press(request: Request) -> Response:
            fields = await read_form(request)
            wanted = fields.get("project", "")

            def make() -> Response:
                # A write names its project: the first one is no answer here.
                project = desk.pick(desk.projects(), wanted) if wanted else None
                if project is None:
                    raise WebError(400, "the form does not say which project", wanted, fix="Load the page again.")
                told = act(desk, project, fields)
                works.forget(project.id)
                queues.forget("all")
                if "hx-request" in request.headers:
                    return show(request, "work_live.html", wanted, told)
                return RedirectResponse(f"/work?project={project.ls_id}", 303)

            return await desk.threads.run(make)

    for name, act in (("train", train), ("pause", pause), ("resume", resume), ("cancel", cancel)):
        add(name, act)
    return router


def train(desk: Desk, project: Project, _: Fields) -> str:
    """Ask for a training, as `maskloop train` does."""
    with desk.pool.read() as session:
        running = active_round(session, project.id)
    request_training(desk.pool, project.id, cause="dashboard")
    if not hurry(desk, project):
        return "A training is asked for. Redis does not answer: it begins when Redis is back."
    if running is not None:
        return f"A training is asked for. It begins when training {running.id} has ended."
    return "A training is asked for. It begins in a moment."


def pause(desk: Desk, project: Project, _: Fields) -> str:
    """As `maskloop pause`."""
    if not pause_schedule(desk.pool, project.id, by=BY):
        return "The schedule was paused already."
    return "The schedule is paused: neither labels nor the clock start a training. “Train now” still does."


def resume(desk: Desk, project: Project, _: Fields) -> str:
    """As `maskloop resume`."""
    changed = resume_schedule(desk.pool, project.id, by=BY)
    hurry(desk, project)
    return "Labels and the clock start trainings again." if changed else "The schedule was not paused."


def cancel(desk: Desk, project: Project, fields: Fields) -> str:
    """As `maskloop train --cancel`, of the training that the form names. WebError 409 where it is open no more."""
    seen = read_round(fields)
    try:
        found = cancel_training(desk.pool, desk.connection, desk.settings, project, by=BY, seen=seen)
    except RoundChanged as error:
        raise WebError(
            409, str(error), seen, fix="Nothing was cancelled. Look at what runs now and decide again."
        ) from error
    except NothingToCancel as error:
        fix = "It has ended meanwhile; the page shows what came of it."
        raise WebError(409, str(error), project.ls_id, fix=fix) from error
    said = []
    if found.round is not None:
        how = "has ended" if found.ended else "ends after the step at hand (its worker did not answer)"
        said.append(f"Training {found.round} is cancelled; its process {how}.")
    if found.wishes:
        said.append(f"Withdrawn: {count(found.wishes, 'request')} for a training.")
    return " ".join(said)


def read_round(fields: Fields) -> int | None:
    """The training that a person saw, 0 for none; None where a programme names none. Raises WebError 400."""
    text = fields.get("round", "")
    if text and not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise WebError(400, "`round` is not what it must be", text, fix="Load the page again.")
    return int(text) if text else None


def hurry(desk: Desk, project: Project) -> bool:
    """Have sync look at the project now; False where Redis does not answer: sync then looks by its own clock."""
    try:
        wake(desk.connection, project.ls_id)
    except (redis.RedisError, ValkeyError):
        return False
    return True
