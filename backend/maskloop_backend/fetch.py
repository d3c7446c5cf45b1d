"""Fetches an image that a task names, without being talked into reading anything else.

The URL comes from whoever may create tasks, so it is not trusted: Label Studio's token goes to Label Studio's
own origin only, and no other address inside the network (loopback, private, metadata) is ever connected to, but
for the image servers that the operator names. What lies in a cloud storage is asked of Label Studio, which redirects
to the storage with a signed address or passes the file on.
"""

import socket
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from ssl import SSLContext, create_default_context

import httpcore

from maskloop_backend.addresses import AddressRefused, GuardedNetwork, Trust
from maskloop_backend.origins import FetchError, Target, first_target, next_target, split_url
from maskloop_backend.refusals import address_refused, check_status
from maskloop_learner.hosts import Hosts

__all__ = ["FetchError", "fetch_image"]

MAX_REDIRECTS = 5


def fetch_image(
    url: str,
    *,
    label_studio_url: str,
    headers_for_label_studio: Callable[[], dict[str, str]],
    max_bytes: int,
    timeout: float,
    task: int,
    image_hosts: Hosts = Hosts(),  # noqa: B008 - immutable
) -> bytes:
    """Read the bytes behind a task's image address, of any content type, at most `max_bytes`, in `timeout` seconds.

    A relative address belongs to Label Studio; one in a cloud storage (s3, gs, azure-blob) is asked of Label Studio
    for `task`, its number there. `headers_for_label_studio` is called only when Label Studio is asked. `image_hosts`
    may be inside the network. Redirects are followed up to five times. Raises FetchError.
    """
    base = split_url(label_studio_url, label_studio_url)
    target = first_target(url.strip(), base, task)
    deadline = time.monotonic() + timeout
    for _ in range(MAX_REDIRECTS + 1):
        headers = headers_for_label_studio() if target.inside else {}
        trust: Trust = "own" if target.inside else "named" if image_hosts.holds(target.host, target.port) else "none"
        answer = _get(target, headers, max_bytes, deadline, timeout, trust)
        if isinstance(answer, bytes):
            return answer
        target = next_target(target, answer, base)
    raise FetchError(
        target.shown, f"more than {MAX_REDIRECTS} redirects", "Give the task the address of the image itself."
    )


def _get(
    target: Target, headers: dict[str, str], max_bytes: int, deadline: float, timeout: float, trust: Trust
) -> bytes | str:
    """One request: the body, or the address of a redirect."""
    raw = [("Host", target.netloc), ("User-Agent", "maskloop"), ("Accept", "image/*,*/*;q=0.5")]
    raw += [("Accept-Encoding", "identity"), *headers.items()]
    request_url = httpcore.URL(
        scheme=target.scheme.encode(),
        host=target.host.encode(),
        port=target.port,
        target=(target.path + (f"?{target.query}" if target.query else "")).encode("ascii"),
    )
    guard = GuardedNetwork(deadline, trust=trust)
    limits = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout)}
    context = _tls() if target.scheme == "https" else None
    try:
        with (
            httpcore.ConnectionPool(ssl_context=context, network_backend=guard) as pool,
            pool.stream("GET", request_url, headers=raw, extensions=limits) as response,
        ):
            fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            if response.status in (301, 302, 303, 307, 308) and fields.get("location"):
                return _text(fields["location"])
            check_status(target, response.status)
            return _body(target, fields, response.iter_stream(), max_bytes)
    except AddressRefused as error:
        raise address_refused(target, error, trust) from error
    except httpcore.TimeoutException as error:
        raise FetchError(
            target.shown, f"no complete answer within {timeout:g} s", "Check the server and the network.", retry=True
        ) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, socket.gaierror) as error:
        raise FetchError(
            target.shown,
            f"cannot be read ({error or type(error).__name__})",
            "Check that the server is up and that its name and certificate are right.",
            retry=True,
        ) from error


def _body(target: Target, fields: dict[str, str], chunks: Iterable[bytes], max_bytes: int) -> bytes:
    encoding = fields.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise FetchError(
            target.shown, f"is sent with content encoding {encoding!r}", "Serve the image without compression."
        )
    length = fields.get("content-length", "0")
    data = bytearray()
    if not (length.isdigit() and int(length) > max_bytes):
        for chunk in chunks:
            data += chunk
            if len(data) > max_bytes:
                break
        else:
            return bytes(data)
    raise FetchError(
        target.shown,
        f"is larger than {max_bytes / 1e6:g} MB",
        "Raise MASKLOOP_MAX_IMAGE_MEGABYTES or make the image smaller.",
    )


@lru_cache(maxsize=1)
def _tls() -> SSLContext:
    return create_default_context()  # honours SSL_CERT_FILE, for a Label Studio with a certificate of its own


def _text(header: str) -> str:
    """A header's bytes as UTF-8, which servers send in spite of the standard, or else as Latin-1."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return header
