"""The address of a task's image, taken apart once and set against Label Studio's own origin."""

import posixpath
import re
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, urljoin, urlsplit

from maskloop_backend import cloud

LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}
DEFAULT_PORTS = {"http": 80, "https": 443}
# Pages of Label Studio that are not files: a task must not make us call them with the token.
NOT_FILES = ("/api/", "/user/", "/logout", "/admin/", "/django-rq/")


class FetchError(RuntimeError):
    """An image could not be fetched.

    `url` is free of credentials and foreign query strings, `retry` says whether a later try may succeed.
    """

    def __init__(self, url: str, reason: str, fix: str, *, retry: bool = False) -> None:
        super().__init__(f"{url}: {reason}. {fix}")
        self.url, self.reason, self.fix, self.retry = url, reason, fix, retry


@dataclass(frozen=True)
class Target:
    """A checked URL. `inside`: it is Label Studio's own, and so was every hop before it."""

    scheme: str
    host: str
    port: int
    path: str
    query: str
    inside: bool

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.path}" + (f"?{self.query}" if self.query else "")

    @property
    def asked_for(self) -> str | None:
        """The address in a cloud storage that Label Studio is asked to resolve, or None."""
        return cloud.resolved_address(self.path, self.query) if self.inside else None

    @property
    def shown(self) -> str:
        """For messages: a foreign query may be a signature, so it is left out."""
        if self.asked_for is not None:
            return f"{cloud.shown_address(self.asked_for)} (through {self.scheme}://{self.netloc}{self.path})"
        query = (f"?{self.query}" if self.inside else "?...") if self.query else ""
        return f"{self.scheme}://{self.netloc}{self.path}{query}"


def first_target(url: str, base: Target, task: int) -> Target:
    if cloud.is_cloud(url):
        return split_url(
            base.url.removesuffix(base.path) + base.path.rstrip("/") + cloud.resolver_path(url, task), url, base
        )
    if url.startswith("/") and not url.startswith("//"):
        root = base.path.rstrip("/")
        # With a sub-path, Label Studio writes the address with or without it.
        return split_url(
            base.url.removesuffix(base.path) + (url if url.startswith(root + "/") else root + url), url, base
        )
    return split_url(url, url, base)


def next_target(target: Target, location: str, base: Target) -> Target:
    following = split_url(urljoin(target.url, location), location, base)
    if target.inside and following.inside and "/user/login" in following.path:
        raise FetchError(
            target.shown,
            "is answered with Label Studio's login page",
            "The token is missing or no longer valid: run `maskloop connect` with a valid one.",
            retry=True,
        )
    if not target.inside:
        # Who left Label Studio does not come back with its token, nor with the right to its address.
        return replace(following, inside=False)
    if not following.inside:
        return following
    _refuse_pages(following, base)
    return following


def split_url(url: str, shown: str, base: Target | None = None) -> Target:
    """Take a URL apart; only these parts are used from here on. `base` None: it is Label Studio's own."""
    name = cloud.shown_address(shown)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise FetchError(name, f"is not an address ({error})", "Correct the task's image address.") from error
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if scheme not in ("http", "https"):
        raise FetchError(
            name,
            f"has the scheme {scheme or 'none'!r}; only http, https, {', '.join(cloud.SCHEMES)} are fetched",
            "Upload the image to Label Studio, or add its storage to the project there.",
        )
    if not host or re.search(r"[\s@/?#%]", host) or re.search(r"[\\\x00-\x1f\x7f]", url):
        raise FetchError(name, "has no valid host", "Correct the task's image address.")
    if parts.username is not None or parts.password is not None:
        raise FetchError(name, "carries a user name or password", "Take it out of the address.")
    try:
        host = host if ":" in host else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise FetchError(name, "has no valid host", "Correct the task's image address.") from error
    # "replace": JSON can carry halves of surrogate pairs, which no URL can.
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._", errors="replace")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?", errors="replace")
    target = Target(scheme, host, port or DEFAULT_PORTS[scheme], path, query, inside=base is None)
    if base is None:
        return target
    both_loopback = host in LOOPBACK_NAMES and base.host in LOOPBACK_NAMES
    if scheme == base.scheme and target.port == base.port and (host == base.host or both_loopback):
        target = replace(target, host=base.host, inside=True)
        _refuse_pages(target, base)
    return target


def _refuse_pages(target: Target, base: Target) -> None:
    path = unquote(target.path)
    inner = posixpath.normpath(path).removeprefix(base.path.rstrip("/")) + ("/" if path.endswith("/") else "")
    login = inner.startswith("/user/login")
    if not login and (".." in path.split("/") or ("/" + inner.lstrip("/")).startswith(NOT_FILES)):
        raise FetchError(target.shown, "is not a file of Label Studio", "Correct the task's image address.")
