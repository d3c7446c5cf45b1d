"""In and out: the project lead's password, or the reader's, for a session."""

import asyncio
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from maskloop_backend.web.auth import address_of, is_foreign, read_cookies, session_cookie, too_many
from maskloop_backend.web.dashboard.desk import Desk
from maskloop_backend.web.dashboard.forms import read_form
from maskloop_backend.web.dashboard.shell import page
from maskloop_backend.web.limits import DELAY, GUESSABLE
from maskloop_backend.web.sessions import COOKIE, LOGIN_COOKIE, LOGIN_SECONDS

HOME = "/"


def make_router(desk: Desk) -> APIRouter:
    """The routes /login and /logout."""
    router = APIRouter()

    def form(request: Request, *, status: int = 200, reason: str = "", onward: str = HOME) -> Response:
        token = desk.users.sessions.login_token()
        made = page("login.html", status=status, reason=reason, onward=onward, token=token)
        made.headers.append(
            "set-cookie", session_cookie(request.scope, token, name=LOGIN_COOKIE, seconds=LOGIN_SECONDS)
        )
        return made

    @router.get("/login")
    async def ask(request: Request, next: str = HOME) -> Response:
        if request.state.who is not None:
            return RedirectResponse(own_path(next), 303)
        return form(request, onward=own_path(next))

    @router.post("/login")
    async def enter(request: Request) -> Response:
        fields = await read_form(request)
        onward = own_path(fields.get("next", HOME))
        cookie = read_cookies(request.headers).get(LOGIN_COOKIE, "")
        sessions, address = desk.users.sessions, address_of(request.scope)
        if is_foreign(request.scope, request.headers) or not sessions.is_login(cookie, fields.get("token", "")):
            reason = "This page was open for too long, or the browser takes no cookies. Please try again."
            return form(request, status=403, reason=reason, onward=onward)
        password = fields.get("password", "")
        role = sessions.role_of(password)
        if (role is None or len(password) < GUESSABLE) and (wait := desk.guesses.wait(address)):
            error = too_many(wait)
            return form(request, status=429, reason=f"{error.what.capitalize()}. {error.fix}", onward=onward)
        if role is None:
            desk.guesses.note(address)
            await asyncio.sleep(DELAY)
            reason = "That is neither the project lead's password nor the reader's."
            return form(request, status=401, reason=reason, onward=onward)
        entered = RedirectResponse(onward, 303)
        entered.headers.append("set-cookie", session_cookie(request.scope, sessions.begin(role)))
        entered.headers.append("set-cookie", session_cookie(request.scope, "", name=LOGIN_COOKIE, seconds=0))
        return entered

    @router.post("/logout")
    async def leave(request: Request) -> Response:
        left = RedirectResponse("/login", 303)
        left.headers.append("set-cookie", session_cookie(request.scope, "", name=COOKIE, seconds=0))
        return left

    return router


def own_path(address: str) -> str:
    """An address on this server to go on to; any other becomes the first page."""
    parts = urlsplit(address)
    safe = address.startswith("/") and not address.startswith(("//", "/\\")) and not parts.netloc
    return address if safe and all(c >= " " for c in address) else HOME
