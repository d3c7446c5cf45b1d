"""Who a request is from, in front of everything: HTTP Basic for programmes, a signed session for browsers."""

import asyncio
import hmac
import logging
import time
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maskloop_backend.web.dashboard.shell import answer, wants_page
from maskloop_backend.web.errors import WebError
from maskloop_backend.web.limits import DELAY, GUESSABLE, Guesses
from maskloop_backend.web.metrics import PATHS as PROTOCOL
from maskloop_backend.web.sessions import COOKIE, SECONDS, Who
from maskloop_backend.web.users import Users

logger = logging.getLogger(__name__)

OPEN = ("/health", "/static/", "/maps/")
"""Beginnings of paths that ask for nothing: /maps/ looks at the signature in the address itself."""
LOGIN, LOGOUT = "/login", "/logout"
SAFE = {"GET", "HEAD", "OPTIONS"}
CSRF_HEADER, CSRF_FIELD = "x-csrf-token", "csrf_token"
LARGEST_FORM = 1 << 16
LOG_EVERY = 60.0
WAYS = (
    "Send HTTP Basic with the username and password of credentials.json in the home folder; "
    "`maskloop connect` sets both in Label Studio. A browser logs in at /login."
)


class Guard:
    """ASGI middleware: `scope["state"]["who"]` says who asks; without that a request gets no further than a 401.

    Every write from a browser's session must carry its token, and a reader's is refused, whatever the route.
    """

    def __init__(self, app: ASGIApp, users: Users, guesses: Guesses) -> None:
        self.app, self.users, self.guesses = app, users, guesses
        self._logged = -LOG_EVERY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})["who"] = None
        if any(scope["path"] == start or (start[-1] == "/" and scope["path"].startswith(start)) for start in OPEN):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            who = await self._identify(scope, headers)
            if who is not None and scope["method"] not in SAFE:
                receive = await self._check_write(scope, headers, who, receive)
        except WebError as error:
            await answer(scope, error, _headers(error))(scope, receive, send)
            return
        if who is None and scope["path"] != LOGIN:
            await self._refuse(scope, headers)(scope, receive, send)
            return
        scope["state"]["who"] = who
        await self.app(scope, receive, self._renewing(scope, who, send) if who is not None and who.renew else send)

    async def _identify(self, scope: Scope, headers: Headers) -> Who | None:
        given = headers.get("authorization")
        if given is not None:
            return await self._read_basic(scope, given)
        if scope["path"] in PROTOCOL:
            return None  # Label Studio has no session, and a browser's must not train a model by way of /webhook
        cookie = read_cookies(headers).get(COOKIE)
        return self.users.sessions.read(cookie) if cookie else None

    async def _read_basic(self, scope: Scope, given: str) -> Who | None:
        credentials = self.users.credentials
        address = address_of(scope)
        who, password = None, ""
        if credentials.accepts(given):
            who, password = Who(credentials.username, "lead"), credentials.password
        elif credentials.accepts_reader(given):
            who, password = Who("reader", "reader"), credentials.reader or ""
        # Behind one proxy all have one address: who holds a password that nobody guesses is not kept out by others.
        if (who is None or len(password) < GUESSABLE) and (wait := self.guesses.wait(address)):
            raise too_many(wait)
        if who is None:
            self.guesses.note(address)
            self._log(scope["path"], "wrong")
            await asyncio.sleep(DELAY)
            raise WebError(401, "the request carries wrong credentials", scope["path"], fix=WAYS)
        return who

    async def _check_write(self, scope: Scope, headers: Headers, who: Who, receive: Receive) -> Receive:
        if is_foreign(scope, headers):
            raise WebError(
                403, "another site's page sent this", headers.get("origin"), fix="Use the dashboard's own pages."
            )
        if who.csrf:
            given, receive = await self._find_token(headers, receive)
            if not _same(given, who.csrf):
                raise WebError(
                    403,
                    "the request does not carry its session's token, so it may not come from the dashboard",
                    scope["path"],
                    fix="Load the page again and repeat what you did.",
                )
        if not who.may_write and scope["path"] != LOGOUT:
            raise WebError(
                403,
                "you are logged in to look only, so nothing was changed",
                scope["path"],
                fix="Log in with the project lead's password to change things.",
            )
        return receive

    async def _find_token(self, headers: Headers, receive: Receive) -> tuple[str, Receive]:
        if (given := headers.get(CSRF_HEADER)) is not None:
            return given, receive
        if not headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return "", receive
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False) and message["type"] == "http.request"
            if len(body) > LARGEST_FORM:
                raise WebError(413, "the form is too large", len(body), fix=f"Send at most {LARGEST_FORM} bytes.")
        fields = parse_qs(body.decode("utf-8", errors="replace"))
        replay = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(replay, None) or await receive()

        return fields.get(CSRF_FIELD, [""])[0], again

    def _refuse(self, scope: Scope, headers: Headers) -> Response:
        there = scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
        if "hx-request" in headers:
            # The whole page goes to the log-in: a form in a corner of it would be odd.
            page = urlsplit(headers.get("hx-current-url", "/"))
            there = page.path + (f"?{page.query}" if page.query else "")
            return Response(status_code=401, headers={"HX-Redirect": f"{LOGIN}?next={quote(there, safe='')}"})
        if scope["method"] in SAFE and wants_page(headers):
            return RedirectResponse(f"{LOGIN}?next={quote(there, safe='')}", 303)
        self._log(scope["path"], "no")
        error = WebError(401, "the request carries no credentials", scope["path"], fix=WAYS)
        return error.response(_headers(error))

    def _renewing(self, scope: Scope, who: Who, send: Send) -> Send:
        async def renewing(message: Message) -> None:
            if message["type"] == "http.response.start":
                value = session_cookie(scope, self.users.sessions.begin(who.role))
                MutableHeaders(scope=message).append("set-cookie", value)
            await send(message)

        # Not on the way out of the session.
        return send if scope["path"] == LOGOUT else renewing

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


def too_many(wait: float) -> WebError:
    """The answer to an address that has guessed too often."""
    seconds = int(wait) + 1
    return WebError(
        429, "too many wrong passwords came from this address", seconds, fix=f"Try again in {seconds} seconds."
    )


def address_of(scope: Scope) -> str:
    """Where a request comes from."""
    return str(scope["client"][0]) if scope.get("client") else ""


def is_foreign(scope: Scope, headers: Headers) -> bool:
    """Whether a browser says that another site's page sent this; programmes say nothing."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def read_cookies(headers: Headers) -> dict[str, str]:
    """The cookies of a request; what cannot be one is none."""
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}


def session_cookie(scope: Scope, value: str, *, name: str = COOKIE, seconds: int = SECONDS) -> str:
    """A Set-Cookie header that no script reads and no other site sends. "" and 0 seconds take it away."""
    secure = "; Secure" if scope.get("scheme") == "https" else ""
    return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"


def _headers(error: WebError) -> dict[str, str]:
    if error.status == 401:
        return {"WWW-Authenticate": 'Basic realm="maskloop", charset="UTF-8"'}
    return {"Retry-After": str(error.value)} if error.status == 429 else {}


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())
