"""The page of models: how good each is and how it got there, what learns now, and which one serves."""

from dataclasses import dataclass

from fastapi import APIRouter, Request
from markupsafe import Markup
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from maskloop_backend.outlook import Outlook
from maskloop_backend.overview import model_charts
from maskloop_backend.overview.learning import Learning, read_learning
from maskloop_backend.overview.model import read_portrait
from maskloop_backend.overview.models import Models, read_models
from maskloop_backend.web.dashboard import promoting
from maskloop_backend.web.dashboard.desk import Desk, Entry
from maskloop_backend.web.dashboard.kept import Kept
from maskloop_backend.web.errors import WebError
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Model, PredictionVersion, Project
from maskloop_learner.select.chart import Chart, draw_svg

ENTRY = Entry("Models", "/models")
NO_PROJECT = "Run `maskloop connect` or `maskloop demo`."
EVERY = {"learning": 2, "waiting": 5, "still": 15}
"""Seconds between two looks at what changes by itself."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A chart as a page shows it."""

    svg: Markup
    legend: list[tuple[str, str]]
    """(name, colour)."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What changes by itself."""

    models: Models
    learning: Learning | None
    outlook: Outlook | None
    """Of the version that should be served; None without one."""

    @property
    def mark(self) -> str:
        """Another one when there is another model, or another one serves."""
        newest = self.models.versions[0].model if self.models.versions else 0
        return f"{self.models.fence}-{newest}-{self.models.older}-{self.models.pinned:d}"

    @property
    def every(self) -> int:
        """Seconds until the next look."""
        if self.learning is not None:
            return EVERY["learning"]
        return EVERY["still" if self.outlook is None or self.outlook.served else "waiting"]


def make_router(desk: Desk) -> APIRouter:
    """The routes /models, /models/live, /models/<model>, and those that change which model serves."""
    router = APIRouter()
    outlooks: Kept[Outlook] = Kept()

    def find(request: Request) -> tuple[list[Project], Project | None]:
        projects = desk.projects()
        return projects, desk.pick(projects, request.query_params.get("project"))

    def show_all(request: Request) -> Response:
        projects, project = find(request)
        if project is None:
            return desk.show(request, "models_none.html", entry=ENTRY, projects=projects)
        state = look(desk.pool, project, outlooks)
        champion = state.models.champion
        return desk.show(
            request,
            "models.html",
            entry=ENTRY,
            projects=projects,
            project=project,
            state=state,
            models=state.models,
            losses=draw_learning(state.learning),
            curve=draw(model_charts.draw_curve(state.models.versions)),
            reliability=draw(model_charts.draw_reliability(champion) if champion else None),
        )

    @router.get("/models")
    async def models(request: Request) -> Response:
        return await desk.threads.run(lambda: show_all(request))

    @router.get("/models/live")
    async def live(request: Request) -> Response:
        def make() -> Response:
            project = need(find(request)[1])
            state = look(desk.pool, project, outlooks)
            shown = desk.show(
                request,
                "models_live.html",
                entry=ENTRY,
                projects=[],
                project=project,
                state=state,
                models=state.models,
                losses=draw_learning(state.learning),
            )
            if request.query_params.get("seen", state.mark) != state.mark:
                shown.headers["HX-Trigger"] = "models-changed"
            return shown

        return await desk.threads.run(make)

    router.include_router(promoting.make_router(desk, ENTRY))

    @router.get("/models/{name}")
    async def one(request: Request, name: str) -> Response:
        def make() -> Response:
            projects, project = find(request)
            with desk.pool.read() as session:
                number = find_model(session, need(project), name)
            if not name.isdecimal():
                return RedirectResponse(f"/models/{number}?project={need(project).ls_id}", 303)
            found = read_portrait(desk.pool, number)
            version = found.version
            with desk.pool.read() as session:
                state = read_models(session, need(project))
            return desk.show(
                request,
                "model.html",
                entry=ENTRY,
                projects=projects,
                project=project,
                models=state,
                found=found,
                version=version,
                reliability=draw(model_charts.draw_reliability(version)),
                losses=draw(model_charts.draw_loss(version.loss, steps=0)),
            )

        return await desk.threads.run(make)

    return router


def need(project: Project | None) -> Project:
    """The project. Raises WebError 404 where there is none."""
    if project is None:
        raise WebError(404, "no project is connected yet", fix=NO_PROJECT)
    return project


def look(pool: Pool, project: Project, outlooks: Kept[Outlook]) -> State:
    """How it stands now; what is left to be drawn, which is counted in the whole pool, as it stood a moment ago."""
    with pool.read() as session:
        row = session.get_one(Project, project.id)
        models = read_models(session, row)
        learning = read_learning(session, project.id)
    outlook, version = None, models.version
    if version is not None:
        # Known anew at once when Label Studio has followed.
        key = project.id, version, row.served_version
        outlook = outlooks.get(key, lambda: Outlook.of(pool, project.id, version))
    return State(models=models, learning=learning, outlook=outlook)


def find_model(session: Session, project: Project, name: str) -> int:
    """The number of a model by its number or one of its prediction versions. Raises WebError 404."""
    if name.isascii() and name.isdecimal() and len(name) <= 9:
        model = session.get(Model, int(name))
        if model is not None and model.project_id == project.id:
            return model.id
    version = session.get(PredictionVersion, name)
    if version is None or version.project_id != project.id:
        raise WebError(404, "this project has no such model", name, fix="Choose one on the page of models.")
    return version.model_id


def draw(chart: Chart | None) -> Drawing | None:
    """A chart for a page; None where there is nothing to draw."""
    if chart is None:
        return None
    # draw_svg escapes every text in it.
    return Drawing(svg=Markup(draw_svg(chart)), legend=model_charts.legend(chart))


def draw_learning(learning: Learning | None) -> Drawing | None:
    """The loss of the training that runs."""
    return draw(model_charts.draw_loss(learning.losses, steps=learning.steps)) if learning is not None else None
