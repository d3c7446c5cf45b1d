"""One shape for every error that leaves the web process: {"error": {"what", "value", "fix"}}."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

logger = logging.getLogger(__name__)


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


def install_handlers(app: FastAPI) -> None:
    """Give every failure of `app` the one shape; what is not foreseen is logged with its traceback."""

    @app.exception_handler(WebError)
    async def known(request: Request, error: WebError) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        fix = "Use one of /health /setup /predict /webhook /versions /metrics."
        value = f"{request.method} {request.url.path}"
        return WebError(error.status_code, str(error.detail), value, fix=fix).response(dict(error.headers or {}))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it; it only ends the request quietly

    @app.exception_handler(SQLAlchemyError)
    async def pool_down(request: Request, error: SQLAlchemyError) -> Response:
        logger.error("%s: the pool's database failed: %s", request.url.path, error)
        fix = "Run `maskloop doctor` on the server."
        return WebError(503, "the pool's database does not answer", type(error).__name__, fix=fix).response()

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        # Starlette raises it again after this, and uvicorn logs the traceback.
        fix = "The log of the web process has the traceback."
        return WebError(500, "internal error", type(error).__name__, fix=fix).response()
