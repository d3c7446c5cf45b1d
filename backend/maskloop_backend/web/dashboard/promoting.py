"""Which model serves, by a click: asked first in a dialog or on a page of its own, then done, or refused in words."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from maskloop_backend.champions import REFUSALS, promote_model, release_champion, roll_back
from maskloop_backend.outlook import tell_sync
from maskloop_backend.overview.models import Models, Version, read_models
from maskloop_backend.web.dashboard.desk import Desk, Entry, who_asks
from maskloop_backend.web.dashboard.forms import read_form
from maskloop_backend.web.dashboard.shell import wants_page
from maskloop_backend.web.errors import WebError
from maskloop_learner.pool.schema import Project
from maskloop_learner.train.registry import find_model

Deed = Literal["promote", "rollback", "release"]
LONGEST = 500
"""Of a reason, in characters."""
PATIENCE = 0.5
"""Seconds for which a lost Redis is tried again: a person waits."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be done, before it is done."""

    deed: Deed
    model: int | None
    """Which model serves then; None: that does not change."""
    version: Version | None
    """That model, where it is among those that are read."""
    champion: Version | None
    fence: int


def make_router(desk: Desk, entry: Entry) -> APIRouter:
    """The routes /models/<model>/promote, /models/rollback and /models/release: GET asks, POST does."""
    router = APIRouter()

    def find(request: Request) -> tuple[list[Project], Project]:
        projects = desk.projects()
        project = desk.pick(projects, request.query_params.get("project"))
        if project is None:
            raise WebError(404, "no project is connected yet", fix="Run `maskloop connect` or `maskloop demo`.")
        return projects, project

    def show(request: Request, deed: Deed, number: int | None, *, refusal: str = "") -> Response:
        projects, project = find(request)
        if not who_asks(request).may_write:
            raise WebError(403, "you are logged in to look only", fix="Log in with the project lead's password.")
        with desk.pool.read() as session:
            models = read_models(session, session.get_one(Project, project.id))
        inside = "hx-request" in request.headers
        shown = desk.show(
            request,
            "model_ask.html" if inside else "model_ask_page.html",
            entry=entry,
            projects=projects,
            project=project,
            status=409 if refusal else 200,
            question=ask(models, deed, number),
            refusal=refusal,
            inside=inside,
        )
        if inside:
            # A refusal is answered where it was asked, not behind the dialog.
            shown.headers["HX-Retarget"], shown.headers["HX-Reswap"] = "#ask", "innerHTML"
        return shown

    def do(request: Request, deed: Deed, number: int | None, fields: dict[str, str]) -> Response:
        project = find(request)[1]
        by, reason = f"{who_asks(request).username} (dashboard)", fields.get("reason", "").strip()[:LONGEST]
        fence = read_fence(fields)
        try:
            if deed == "promote" and number is not None:
                with desk.pool.read() as session:
                    model = find_model(session, project.id, number)
                promote_model(desk.pool, project, model, desk.settings, by=by, reason=reason, fence=fence)
            elif deed == "rollback":
                roll_back(desk.pool, project, desk.settings, by=by, to=number, reason=reason, fence=fence)
            else:
                release_champion(desk.pool, project, by=by, fence=fence)
        except REFUSALS as error:
            said = str(error)
            if "hx-request" not in request.headers and not wants_page(request.headers):
                raise WebError(409, "it is not done", said, fix="Look at the models and decide again.") from error
            return show(request, deed, number, refusal=f"{said[:1].upper()}{said[1:]}.")
        tell_sync(desk.settings, project.ls_id, patience=PATIENCE)
        onward = f"/models?project={project.ls_id}"
        if "hx-request" in request.headers:
            return Response(status_code=204, headers={"HX-Redirect": onward})
        return RedirectResponse(onward, 303)

    def route(path: str, deed: Deed, *, named: bool = False) -> None:
        def number_of(request: Request) -> int | None:
            return read_number(request.path_params["name"]) if named else None

        @router.get(path)
        async def asking(request: Request) -> Response:
            return await desk.threads.run(lambda: show(request, deed, number_of(request)))

        @router.post(path)
        async def doing(request: Request) -> Response:
            number = number_of(request)
            fields = await read_form(request)
            if deed == "rollback" and fields.get("to"):
                number = read_number(fields["to"])
            work: Callable[[], Response] = lambda: do(request, deed, number, fields)  # noqa: E731 - it is typed
            return await desk.threads.run(work)

    route("/models/rollback", "rollback")
    route("/models/release", "release")
    route("/models/{name}/promote", "promote", named=True)
    return router


def ask(models: Models, deed: Deed, number: int | None) -> Question:
    """What a person is asked. Raises WebError 404 for a model that there is not, 409 where there is nothing to do."""
    model = number if deed == "promote" else models.previous if deed == "rollback" else None
    if deed == "rollback" and model is None:
        raise WebError(409, "there is no earlier model to roll back to", fix="Promote a model instead.")
    version = next((each for each in models.versions if each.model == model), None)
    if deed == "promote" and version is None and not models.older:
        raise WebError(404, "this project has no such model", model, fix="Choose one on the page of models.")
    return Question(deed=deed, model=model, version=version, champion=models.champion, fence=models.fence)


def read_fence(fields: dict[str, str]) -> int | None:
    """The champion's fence as the person saw it; None where a programme names none. Raises WebError 400."""
    text = fields.get("fence", "")
    return read_number(text, status=400, what="`fence` is not what it must be") if text else None


def read_number(text: str, *, status: int = 404, what: str = "this project has no such model") -> int:
    """A number out of an address or a form. Raises WebError."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise WebError(status, what, text, fix="Load the page of models again.")
    return int(text)
