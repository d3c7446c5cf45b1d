"""One shape for every error that leaves the web process: {"error": {"what", "value", "fix"}}."""

import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

logger = logging.getLogger(__name__)


Answer = Callable[[Scope, "WebError", dict[str, str] | None], Response]
"""Makes a response, with these headers, of an error in a request."""


class WebError(Exception):
    """A request that cannot be served: a status, what is wrong, the value, and the way out."""

    def __init__(self, status: int, what: str, value: Any = None, *, fix: str) -> None:
        super().__init__(what)
        self.status, self.what, self.value, self.fix = status, what, value, fix

    def response(self, headers: dict[str, str] | None = None) -> JSONResponse:
        """The error as an HTTP response."""
        return JSONResponse(error_body(self.what, self.value, fix=self.fix), self.status, headers)


def error_body(what: str, value: Any = None, *, fix: str) -> dict[str, Any]:
    """The JSON body of an error; a long value is cut."""
    shown = value if value is None or isinstance(value, (int, float, bool)) else str(value)[:200]
    return {"error": {"what": what, "value": shown, "fix": fix}}


def as_json(scope: Scope, error: WebError, headers: dict[str, str] | None) -> Response:
    """An error for programmes."""
    return error.response(headers)


def install_handlers(app: FastAPI, answer: Answer = as_json) -> None:
    """Give every failure of `app` the one shape, by way of `answer`.

    What is not foreseen is logged with its traceback.
    """

    @app.exception_handler(WebError)
    async def known(request: Request, error: WebError) -> Response:
        return answer(request.scope, error, None)

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        fix = "Use one of /health /setup /predict /webhook /versions /metrics, or a page of the dashboard."
        value = f"{request.method} {request.url.path}"
        found = WebError(error.status_code, str(error.detail), value, fix=fix)
        return answer(request.scope, found, dict(error.headers or {}))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it; it only ends the request quietly

    @app.exception_handler(SQLAlchemyError)
    async def pool_down(request: Request, error: SQLAlchemyError) -> Response:
        logger.error("%s: the pool's database failed: %s", request.url.path, error)
        fix = "Run `maskloop doctor` on the server."
        found = WebError(503, "the pool's database does not answer", type(error).__name__, fix=fix)
        return answer(request.scope, found, None)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        # Starlette raises it again after this, and uvicorn logs the traceback.
        fix = "The log of the web process has the traceback."
        return answer(request.scope, WebError(500, "internal error", type(error).__name__, fix=fix), None)
