"""The page at `/`: every project with what it serves, how far it is, and what to do next. It only shows."""

from fastapi import APIRouter
from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy import select
from starlette.responses import HTMLResponse, Response

from maskloop_backend.readiness import Readiness, readiness
from maskloop_backend.web.protocol import RELEASE
from maskloop_backend.web.threads import Threads
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project
from maskloop_learner.settings import Settings

TEMPLATES = Environment(
    loader=PackageLoader("maskloop_backend.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
HEADERS = {
    "Cache-Control": "no-store",
    # Nothing is loaded from anywhere and nothing runs, whatever a project is called.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}


def make_page(pool: Pool, settings: Settings, threads: Threads) -> APIRouter:
    """The route `/`."""
    router = APIRouter()

    @router.get("/")
    async def projects() -> Response:
        return HTMLResponse(await threads.run(lambda: render(look(pool, settings), settings)), headers=HEADERS)

    return router


def look(pool: Pool, settings: Settings) -> list[Readiness]:
    """Every project, by its number in Label Studio."""
    with pool.read() as session:
        projects = session.scalars(select(Project).order_by(Project.ls_id)).all()
        return [readiness(session, project, settings) for project in projects]


def render(projects: list[Readiness], settings: Settings) -> str:
    """The page as HTML."""
    page = TEMPLATES.get_template("projects.html")
    return page.render(projects=projects, trigger=settings.trigger_labels, release=RELEASE)
