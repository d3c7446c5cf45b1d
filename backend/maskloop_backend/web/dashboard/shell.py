"""What every page stands in: templates, the policy of what a page may load, and errors as a page or as JSON."""

import hashlib
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from maskloop_backend.web.dashboard.words import FILTERS
from maskloop_backend.web.errors import WebError

try:
    RELEASE = version("maskloop")
except PackageNotFoundError:  # run from a checkout that was not installed
    RELEASE = "unknown"

HEADERS = {
    "Cache-Control": "no-store",
    # Nothing is loaded from elsewhere and nothing runs but our own files, whatever a project is called.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
STATIC = {
    PurePosixPath(file.name).name: file.read_bytes()
    for file in files("maskloop_backend.web").joinpath("static").iterdir()
    if file.is_file()
}
"""Name -> bytes of every file that a page may load."""
STAMP = hashlib.sha256(b"".join(STATIC[name] for name in sorted(STATIC))).hexdigest()[:12]
"""Stands in the static files' addresses, so that browsers may keep them for ever."""

TEMPLATES = Environment(
    loader=PackageLoader("maskloop_backend.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.globals |= {"release": RELEASE, "stamp": STAMP}
TEMPLATES.filters |= FILTERS


def page(template: str, *, status: int = 200, headers: dict[str, str] | None = None, **context: Any) -> HTMLResponse:
    """A page, or a part of one, with the headers of all pages. A template that lacks a value raises UndefinedError."""
    text = TEMPLATES.get_template(template).render(**context)
    return HTMLResponse(text, status, headers=HEADERS | (headers or {}))


def wants_page(headers: Headers) -> bool:
    """Whether a browser asks, not a programme."""
    return "text/html" in headers.get("accept", "")


def answer(scope: Scope, error: WebError, headers: dict[str, str] | None = None) -> Response:
    """An error in the form that is understood: a page, a note for htmx to put on the page, or JSON."""
    asked = Headers(scope=scope)
    if "hx-request" in asked:
        return page("notice.html", status=error.status, headers=headers, error=error)
    if wants_page(asked) and error.status != 401:
        return page("error.html", status=error.status, headers=headers, error=error)
    return error.response(headers)
