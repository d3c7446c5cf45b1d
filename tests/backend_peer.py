"""A small real HTTP server that speaks Label Studio's ML-backend protocol, as the peer `connect` registers.

It asks for HTTP Basic credentials everywhere but on /health, and keeps what it was sent.
"""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class BackendPeer:
    """`url`, `username`, `password`; `requests` holds (method, path, status, body) of every request."""

    def __init__(self) -> None:
        self.username, self.password = "label-studio", "s3cret/:&"
        self.version = "peer-1"
        self.requests: list[tuple[str, str, int, dict[str, Any]]] = []
        peer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                sent = json.loads(body) if body else {}
                token = base64.b64encode(f"{peer.username}:{peer.password}".encode()).decode()
                known = self.path == "/health" or self.headers.get("Authorization") == f"Basic {token}"
                status = 200 if known else 401
                peer.requests.append((self.command, self.path, status, sent))
                reply: dict[str, Any] = {"status": "UP", "model_version": peer.version}
                if self.path == "/predict":
                    reply = {
                        "results": [{"result": [], "score": 0.5, "model_version": peer.version} for _ in sent["tasks"]]
                    }
                data = json.dumps(reply if known else {}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = answer

            def log_message(self, *_: object) -> None:
                """Quiet: the tests read `requests`."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def seen(self, path: str) -> list[tuple[int, dict[str, Any]]]:
        """(status, body) of every request to a path."""
        return [(status, body) for _, where, status, body in self.requests if where == path]


@contextmanager
def backend_peer() -> Iterator[BackendPeer]:
    """Serve from a thread until the block ends."""
    peer = BackendPeer()
    thread = threading.Thread(target=peer.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield peer
    finally:
        peer.server.shutdown()
        peer.server.server_close()
        thread.join(10)
