"""A batch by a click: what would be chosen, its lock, and its end, as `maskloop batch` does them."""

from collections.abc import Callable
from typing import Literal, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from maskloop_backend.batch_files import preview
from maskloop_backend.outlook import tell_sync
from maskloop_backend.overview.batches import find_summary, list_entries
from maskloop_backend.web.dashboard.desk import Desk, Entry, who_asks
from maskloop_backend.web.dashboard.forms import read_form
from maskloop_backend.web.dashboard.shots import shoot
from maskloop_backend.web.dashboard.wishing import read_asked
from maskloop_backend.web.errors import WebError
from maskloop_learner.pool.batches import BatchError, Ended, end_batch, find_batch, refuse_second
from maskloop_learner.pool.planning import lock_batch, plan_batch
from maskloop_learner.pool.schema import Project
from maskloop_learner.select.options import ChoosingError

T = TypeVar("T")
Deed = Literal["close", "undo"]
STATES: dict[Deed, Ended] = {"close": "closed", "undo": "undone"}
PER_PAGE = 100
"""Images of a batch, or of what would be one, that are shown at once."""
PATIENCE = 0.5
"""Seconds for which a lost Redis is tried again: a person waits."""


def make_router(desk: Desk, entry: Entry) -> APIRouter:
    """The routes POST /batches/preview, POST /batches, and /batches/<number>/close and /undo: GET asks, POST does."""
    router = APIRouter()

    def find(request: Request) -> tuple[list[Project], Project]:
        projects = desk.projects()
        project = desk.pick(projects, request.query_params.get("project"))
        if project is None:
            raise WebError(404, "no project is connected yet", fix="Run `maskloop connect` or `maskloop demo`.")
        return projects, project

    @router.post("/batches/preview")
    async def try_out(request: Request) -> Response:
        fields = await read_form(request)

        def make() -> Response:
            projects, project = find(request)
            planned = _in_words(lambda: plan_batch(desk.pool, project.id, read_asked(fields)))
            with desk.pool.read() as session:
                rows = preview(session, planned, limit=PER_PAGE)
                entries = list_entries(session, project.id, rows, version=planned.version_id)
            template = "batch_preview.html" if "hx-request" in request.headers else "batch_preview_page.html"
            return desk.show(
                request,
                template,
                entry=entry,
                projects=projects,
                project=project,
                planned=planned,
                items=shoot(project, entries),
                fields=fields,
            )

        return await desk.choosing.run(make)

    @router.post("/batches")
    async def create(request: Request) -> Response:
        fields = await read_form(request)

        def make() -> Response:
            project = find(request)[1]

            def lock() -> int:
                asked = read_asked(fields)
                with desk.pool.read() as session:
                    # Before seconds of choosing; the database refuses a second one in any case.
                    refuse_second(session, project.id)
                planned = plan_batch(desk.pool, project.id, asked)
                return lock_batch(desk.pool, project.id, planned, by=_by(request)).number

            number = _in_words(lock)
            tell_sync(desk.settings, project.ls_id, patience=PATIENCE)
            return _go(request, project, number)

        return await desk.choosing.run(make)

    def ask(request: Request, number: int, deed: Deed, *, refusal: str = "") -> Response:
        projects, project = find(request)
        if not who_asks(request).may_write:
            raise WebError(403, "you are logged in to look only", fix="Log in with the project lead's password.")
        inside = "hx-request" in request.headers
        with desk.pool.read() as session:
            summary = find_summary(session, _in_words(lambda: find_batch(session, project.id, number), status=404))
        shown = desk.show(
            request,
            "batch_ask.html" if inside else "batch_ask_page.html",
            entry=entry,
            projects=projects,
            project=project,
            status=409 if refusal else 200,
            batch=summary,
            deed=deed,
            refusal=refusal,
            inside=inside,
        )
        if inside:
            # A refusal is answered where it was asked, not behind the dialog.
            shown.headers["HX-Retarget"], shown.headers["HX-Reswap"] = "#ask", "innerHTML"
        return shown

    def end(request: Request, number: int, deed: Deed) -> Response:
        project = find(request)[1]
        with desk.pool.read() as session:
            batch = _in_words(lambda: find_batch(session, project.id, number), status=404)
        try:
            with desk.pool.write() as session:
                end_batch(session, find_batch(session, project.id, batch.number), STATES[deed], by=_by(request))
        except BatchError as error:
            said = str(error)
            return ask(request, number, deed, refusal=f"{said[:1].upper()}{said[1:]}.")
        tell_sync(desk.settings, project.ls_id, patience=PATIENCE)
        return _go(request, project, number)

    def route(deed: Deed) -> None:
        @router.get(f"/batches/{{number}}/{deed}")
        async def asking(request: Request, number: str) -> Response:
            return await desk.threads.run(lambda: ask(request, read_number(number), deed))

        @router.post(f"/batches/{{number}}/{deed}")
        async def doing(request: Request, number: str) -> Response:
            return await desk.threads.run(lambda: end(request, read_number(number), deed))

    route("close")
    route("undo")
    return router


def read_number(text: str) -> int:
    """A batch's number out of an address. Raises WebError 404."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise WebError(404, "there is no such batch", text, fix="Choose one on the page of batches.")
    return int(text)


def _in_words(work: Callable[[], T], *, status: int = 409) -> T:
    """Do it; what the pool refuses is said as on the command line, with its way out. Raises WebError."""
    try:
        return work()
    except (BatchError, ChoosingError) as error:
        what, _, fix = str(error).partition("; ")
        fix = fix or "Change the form and try again."
        raise WebError(status, what, fix=f"{fix[:1].upper()}{fix[1:].rstrip('.')}.") from error


def _by(request: Request) -> str:
    return f"{who_asks(request).username} (dashboard)"


def _go(request: Request, project: Project, number: int) -> Response:
    onward = f"/batches/{number}?project={project.ls_id}"
    if "hx-request" in request.headers:
        return Response(status_code=204, headers={"HX-Redirect": onward})
    return RedirectResponse(onward, 303)
