"""A project's report as a file to keep: the same that `maskloop report` writes."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from maskloop_backend.report.page import make_report
from maskloop_backend.report.writing import default_name
from maskloop_backend.web.dashboard.desk import Desk
from maskloop_backend.web.errors import WebError
from maskloop_learner.pool.schema import utcnow

NO_PROJECT = "Run `maskloop connect` or `maskloop demo`."


def make_router(desk: Desk) -> APIRouter:
    """The route /report, for everybody who is logged in."""
    router = APIRouter()

    @router.get("/report")
    async def report(request: Request) -> Response:
        def make() -> Response:
            project = desk.pick(desk.projects(), request.query_params.get("project"))
            if project is None:
                raise WebError(404, "no project is connected yet", fix=NO_PROJECT)
            now, anonymous = utcnow(), read_flag("anonymous", request.query_params.get("anonymous"))
            text = make_report(desk.pool, desk.settings, project.id, now=now, anonymous=anonymous, boards=desk.boards)
            return Response(
                text,
                media_type="text/html",
                headers={
                    # To be kept, not shown here: its own policy allows its own styles.
                    "Content-Disposition": f'attachment; filename="{default_name(project.ls_id, now)}"',
                    "Content-Security-Policy": "sandbox; default-src 'none'",
                    "Cache-Control": "no-store",
                    "X-Content-Type-Options": "nosniff",
                },
            )

        # Pixels are drawn, which takes a second or two: the pages' own threads stay free.
        return await desk.pictures.run(make)

    return router


def read_flag(name: str, text: str | None) -> bool:
    """A parameter that says yes (1) or no (0, "", or left out)."""
    if text not in (None, "", "0", "1"):
        raise WebError(400, f"`{name}` is not what it must be", text, fix="Give 1, or leave it out.")
    return text == "1"
