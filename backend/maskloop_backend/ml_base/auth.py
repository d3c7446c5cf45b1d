"""HTTP Basic in front of a served subclass; /health says only that it is up to those without credentials."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from maskloop_backend.credentials import Credentials
from maskloop_backend.web.errors import error_body

OPEN = {"/", "/health"}
FIX = (
    "Send the user name and password that `maskloop serve` was started with. Label Studio sends those of the backend's "
    "settings, but to its webhooks it gives none: set the header there."
)


class Guard:
    """ASGI middleware: a request with the wrong `Authorization` header, or none, goes no further than a 401."""

    def __init__(self, app: ASGIApp, credentials: Credentials) -> None:
        self.app, self.credentials = app, credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            scope["trusted"] = self.credentials.accepts(given.decode("latin-1"))
            if not scope["trusted"] and not (scope["path"] in OPEN and not given):
                what = "the request carries wrong credentials" if given else "the request carries no credentials"
                headers = {"WWW-Authenticate": 'Basic realm="maskloop serve", charset="UTF-8"'}
                await JSONResponse(error_body(what, scope["path"], fix=FIX), 401, headers)(scope, receive, send)
                return
        await self.app(scope, receive, send)
