"""Runs the web process until it is told to stop."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType

import uvicorn

from maskloop_backend.clients import Clients
from maskloop_backend.credentials import CredentialsError, load_credentials
from maskloop_backend.intake import HeadersFor
from maskloop_backend.web.app import create_app
from maskloop_learner.pool.pool import Pool
from maskloop_learner.settings import Settings

STOP_SECONDS = 3
LEAVE_SECONDS = 0.5
EXIT_CANNOT_START = 2
DATABASE_PATIENCE = 120.0
"""Seconds to wait for a database server that is not up yet."""


def serve(settings: Settings, *, headers_for: HeadersFor | None = None) -> None:
    """Serve on settings.host and settings.port until SIGTERM or SIGINT; then stop within five seconds.

    `headers_for`: see create_app; default: the tokens that `maskloop connect` keeps in the home folder.

    Exits with status 2 and one line when the address is taken or the credentials cannot be used.
    """
    logging.basicConfig(
        level=settings.log_level, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        credentials = load_credentials(settings.home)
        listening = _listen(settings.host, settings.port)
    except CredentialsError as error:
        print(error, file=sys.stderr)
        raise SystemExit(EXIT_CANNOT_START) from error
    except OSError as error:
        print(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}. "
            "Set MASKLOOP_PORT (or MASKLOOP_HOST) to a free one, or stop the process that has it.",
            file=sys.stderr,
        )
        raise SystemExit(EXIT_CANNOT_START) from error
    pool = Pool.open(settings, patience=DATABASE_PATIENCE)
    headers_for = headers_for or Clients(settings.home).headers_for
    app = create_app(pool, settings=settings, credentials=credentials, headers_for=headers_for)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
        timeout_keep_alive=30,
        ws="none",
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger(__name__).info("web listens on http://%s:%d", settings.host, listening.getsockname()[1])
    server = _Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        # Ours for the moments before and after uvicorn's own: a clean stop is no death by a signal.
        signal.signal(number, server.handle_exit)
    try:
        server.run(sockets=[listening])
    finally:
        pool.close()
        _leave()


class _Server(uvicorn.Server):
    """Ends requests that wait for the GPU worker as soon as the process is told to stop."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.services.predictor.stopping.set()  # type: ignore[union-attr]
        self.should_exit = True


def _leave() -> None:
    """End the process when threads hang in the network: Python would wait for them, for up to half a minute."""
    end = time.monotonic() + LEAVE_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                logging.shutdown()
                sys.stdout.flush()
                os._exit(0)


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    # A restart must not wait for connections of the one before it.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(1024)
    except OSError:
        listening.close()
        raise
    listening.set_inheritable(True)
    return listening
