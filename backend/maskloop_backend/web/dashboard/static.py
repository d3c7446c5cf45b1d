"""The style, the scripts and the icon of the pages: read once, kept by browsers for ever."""

import mimetypes

from fastapi import APIRouter
from starlette.responses import Response

from maskloop_backend.web.dashboard.desk import Desk
from maskloop_backend.web.dashboard.shell import STAMP, STATIC
from maskloop_backend.web.errors import WebError

FOR_EVER = "public, max-age=31536000, immutable"


def make_router(desk: Desk) -> APIRouter:
    """The route /static/; it asks for no log-in, since the log-in page itself needs it."""
    router = APIRouter()

    @router.get("/static/{stamp}/{name}")
    async def static(stamp: str, name: str) -> Response:
        if name not in STATIC:
            raise WebError(404, "there is no such file", name, fix="Load the page again.")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        keep = FOR_EVER if stamp == STAMP else "no-cache"
        headers = {"Cache-Control": keep, "X-Content-Type-Options": "nosniff"}
        return Response(STATIC[name], media_type=kind, headers=headers)

    return router
