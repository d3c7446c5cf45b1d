"""HTTP Basic in front of every endpoint but /health."""

import logging
import time

from starlette.types import ASGIApp, Receive, Scope, Send

from maskloop_backend.credentials import Credentials
from maskloop_backend.web.errors import WebError

logger = logging.getLogger(__name__)

OPEN = {"/health"}
LOG_EVERY = 60.0


class BasicAuth:
    """ASGI middleware: without the right `Authorization` header a request goes no further than a 401."""

    def __init__(self, app: ASGIApp, credentials: Credentials) -> None:
        self.app, self.credentials = app, credentials
        self._logged = -LOG_EVERY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        if self.credentials.accepts(given.decode("latin-1") if given is not None else None):
            await self.app(scope, receive, send)
            return
        self._log(scope["path"], "wrong" if given else "no")
        error = WebError(
            401,
            "the request carries wrong credentials" if given else "the request carries no credentials",
            scope["path"],
            fix="Send HTTP Basic with the username and password of credentials.json in the home folder; "
            "`maskloop connect` sets both in Label Studio.",
        )
        await error.response({"WWW-Authenticate": 'Basic realm="maskloop", charset="UTF-8"'})(scope, receive, send)

    def _log(self, path: str, kind: str) -> None:
        # Label Studio sends webhooks without credentials until `connect` repairs them, and tells nobody.
        if time.monotonic() - self._logged >= LOG_EVERY:
            self._logged = time.monotonic()
            logger.warning(
                "%s: refused a request with %s credentials (said once a minute). If it is Label Studio's, "
                "run `maskloop connect` again.",
                path[:100],
                kind,
            )
