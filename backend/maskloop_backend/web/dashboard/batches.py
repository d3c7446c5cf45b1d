"""The page of batches: what was chosen, how far each is, and the form that chooses the next one."""

from fastapi import APIRouter, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from maskloop_backend.batch_files import describe, to_csv, to_json
from maskloop_backend.overview.batches import find_summary, list_summaries, read_entries
from maskloop_backend.web.dashboard import choosing
from maskloop_backend.web.dashboard.boards import SCORES
from maskloop_backend.web.dashboard.choosing import PER_PAGE, read_number
from maskloop_backend.web.dashboard.desk import Desk, Entry
from maskloop_backend.web.dashboard.shell import HEADERS
from maskloop_backend.web.dashboard.shots import shoot
from maskloop_backend.web.dashboard.wishing import SHARE, SIZE
from maskloop_backend.web.errors import WebError
from maskloop_learner.pool.batches import BatchError, find_batch, find_open
from maskloop_learner.pool.members import members
from maskloop_learner.pool.queries import current_version
from maskloop_learner.pool.schema import Batch, Project
from maskloop_learner.select.strategies import DEFAULT, STRATEGIES

ENTRY = Entry("Batches", "/batches")
FORMS = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


def make_router(desk: Desk) -> APIRouter:
    """The routes /batches, /batches/<number>, what changes by itself of it, its export, and those of `choosing`."""
    router = APIRouter()

    def find(request: Request) -> tuple[list[Project], Project | None]:
        projects = desk.projects()
        return projects, desk.pick(projects, request.query_params.get("project"))

    def show_all(request: Request) -> Response:
        projects, project = find(request)
        if project is None:
            return desk.show(request, "batches_none.html", entry=ENTRY, projects=projects)
        before = request.query_params.get("before")
        with desk.pool.read() as session:
            rows, older = list_summaries(
                session, project.id, before=read_number(before) if before is not None else None
            )
            opened = find_open(session, project.id)
            version = current_version(session, project.id)
        return desk.show(
            request,
            "batches.html",
            entry=ENTRY,
            projects=projects,
            project=project,
            rows=rows,
            older=older,
            opened=opened,
            version=version,
            strategies=list(STRATEGIES.values()),
            preferred=DEFAULT if version is not None else "typiclust",
            scores=SCORES,
            size=SIZE,
            share=SHARE,
        )

    def show_one(request: Request, number: str, template: str) -> Response:
        projects, project = find(request)
        after = request.query_params.get("after")
        start = read_number(after) if after is not None else 0
        with desk.pool.read() as session:
            batch = find_one(session, project, number)
            summary = find_summary(session, batch)
            rows = members(session, batch)
            entries = read_entries(session, batch, rows[start : start + PER_PAGE])
        return desk.show(
            request,
            template,
            entry=ENTRY,
            projects=projects,
            project=project,
            batch=summary,
            items=shoot(project, entries) if project is not None else [],
            start=start,
            following=start + PER_PAGE if start + PER_PAGE < len(rows) else None,
        )

    @router.get("/batches")
    async def batches(request: Request) -> Response:
        return await desk.threads.run(lambda: show_all(request))

    @router.get("/batches/{number}")
    async def batch(request: Request, number: str) -> Response:
        return await desk.threads.run(lambda: show_one(request, number, "batch.html"))

    @router.get("/batches/{number}/more")
    async def more(request: Request, number: str) -> Response:
        return await desk.threads.run(lambda: show_one(request, number, "batch_items.html"))

    @router.get("/batches/{number}/state")
    async def state(request: Request, number: str) -> Response:
        def make() -> Response:
            project = find(request)[1]
            with desk.pool.read() as session:
                summary = find_summary(session, find_one(session, project, number))
            shown = desk.show(request, "batch_state.html", entry=None, projects=[], project=project, batch=summary)
            if summary.state != "open":
                shown.headers["HX-Refresh"] = "true"
            elif request.query_params.get("seen", summary.mark) != summary.mark:
                shown.headers["HX-Trigger"] = "batch-moved"
            return shown

        return await desk.threads.run(make)

    @router.get("/batches/{number}/export.{form}")
    async def export(request: Request, number: str, form: str) -> Response:
        def make() -> Response:
            if form not in FORMS:
                raise WebError(404, "a batch is written as csv or json", form, fix="Ask for one of these.")
            with desk.pool.read() as session:
                batch = find_one(session, find(request)[1], number)
                rows = members(session, batch)
            text = to_csv(batch, rows) if form == "csv" else to_json(describe(batch, rows))
            named = {"Content-Disposition": f'attachment; filename="batch-{batch.number}.{form}"'}
            return Response(text, media_type=FORMS[form], headers=HEADERS | named)

        return await desk.threads.run(make)

    router.include_router(choosing.make_router(desk, ENTRY))
    return router


def find_one(session: Session, project: Project | None, number: str) -> Batch:
    """The batch of this number. Raises WebError 404 where there is none."""
    if project is None:
        raise WebError(404, "no project is connected yet", fix="Run `maskloop connect` or `maskloop demo`.")
    try:
        return find_batch(session, project.id, read_number(number))
    except BatchError as error:
        raise WebError(404, str(error), number, fix="Choose one on the page of batches.") from error
