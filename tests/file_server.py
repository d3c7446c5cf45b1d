"""A plain HTTP server of a folder's files on a free loopback port, as an image server inside the network."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(SimpleHTTPRequestHandler):
    """Remembers the Authorization header of every request in `server.tokens`."""

    def do_GET(self) -> None:
        """Serve a file."""
        self.server.tokens.append(self.headers.get("Authorization"))  # type: ignore[attr-defined]
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: pytest shows what fails."""


@contextmanager
def file_server(folder: Path) -> Iterator[ThreadingHTTPServer]:
    """Serve from a thread until the block ends; `.tokens` has what it was shown."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.tokens = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
