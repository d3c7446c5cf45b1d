"""The first page: every project with what it serves, how far it is, and what to do next. It only shows."""

from fastapi import APIRouter, Request
from sqlalchemy import select
from starlette.responses import Response

from maskloop_backend.readiness import Readiness, readiness
from maskloop_backend.web.dashboard.desk import Desk, Entry
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project
from maskloop_learner.settings import Settings

ENTRY = Entry("Projects", "/", of_project=False)


def make_router(desk: Desk) -> APIRouter:
    """The routes / and, for the page that looks again, /projects/cards."""
    router = APIRouter()

    @router.get("/")
    async def projects(request: Request) -> Response:
        return await show(request, "projects.html")

    @router.get("/projects/cards")
    async def cards(request: Request) -> Response:
        return await show(request, "project_cards.html")

    async def show(request: Request, template: str) -> Response:
        def make() -> Response:
            found = look(desk.pool, desk.settings)
            return desk.show(
                request,
                template,
                entry=ENTRY,
                projects=desk.projects(),
                found=found,
                trigger=desk.settings.trigger_labels,
            )

        return await desk.threads.run(make)

    return router


def look(pool: Pool, settings: Settings) -> list[Readiness]:
    """Every project, by its number in Label Studio."""
    with pool.read() as session:
        projects = session.scalars(select(Project).order_by(Project.ls_id)).all()
        return [readiness(session, project, settings) for project in projects]
