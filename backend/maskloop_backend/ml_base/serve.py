"""Runs the server of a subclass, in one process or in several, until it is told to stop."""

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address

import uvicorn
from fastapi import FastAPI

from maskloop_backend.credentials import Credentials
from maskloop_backend.ml_base.app import make_app
from maskloop_backend.ml_base.loading import LoadError, load_class
from maskloop_learner.settings import get_settings

VARIABLE = "MASKLOOP_SERVED"
"""Carries the options into worker processes, which start as programs of their own."""
STOP_SECONDS = 3
LEAVE_SECONDS = 1.0


@dataclass(frozen=True)
class Options:
    """What `maskloop serve` was asked for."""

    target: str
    host: str = "127.0.0.1"
    port: int = 9091
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    workers: int = 1
    threads: int = 4

    @property
    def credentials(self) -> Credentials | None:
        """What requests must carry, None for no check."""
        return Credentials(self.username, self.password) if self.username and self.password else None


def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT. Raises LoadError for a class that cannot be served or an address that is taken."""
    load_class(options.target)
    _probe(options.host, options.port)
    os.environ[VARIABLE] = json.dumps(asdict(options) | {"parent": os.getpid()})
    for number in (signal.SIGTERM, signal.SIGINT):
        # Before and after uvicorn's own handlers: a clean stop is no death by a signal.
        signal.signal(number, lambda *_: sys.exit(0))
    uvicorn.run(
        "maskloop_backend.ml_base.serve:worker_app",
        factory=True,
        host=options.host,
        port=options.port,
        workers=options.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
        ws="none",
    )


def worker_app() -> FastAPI:
    """The application of one worker process, out of the options in its environment."""
    values = json.loads(os.environ[VARIABLE])
    parent = values.pop("parent")
    options = Options(**values)
    if parent != os.getpid() or options.workers == 1:
        del os.environ[VARIABLE]  # a subclass's own programs need not know the password
    logging.basicConfig(
        level=get_settings().log_level, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if parent != os.getpid():
        _die_with(parent)
    app = make_app(load_class(options.target), credentials=options.credentials, threads=options.threads)
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with inner(app):
            yield
        # A predict that hangs must not hold up the end; a fit that is cut off is begun again at the next start.
        threading.Thread(target=_leave, name="leave", daemon=True).start()

    app.router.lifespan_context = lifespan
    logging.getLogger(__name__).info("%s listens on http://%s:%d", options.target, options.host, options.port)
    return app


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _leave() -> None:
    time.sleep(LEAVE_SECONDS)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def _die_with(parent: int) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _probe(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise LoadError(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port") from error
