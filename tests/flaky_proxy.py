"""A reverse proxy in front of a real server, under a sub-path, that fails on demand."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

PREFIX = "/studio"


class FlakyProxy:
    """Serves `target` under `url` (with a sub-path).

    `faults` are used up one per request: ("before", 503, {headers}) answers without asking the server, ("after",)
    asks it and drops the answer, ("page",) answers with a page of HTML.
    """

    def __init__(self, target: str) -> None:
        self.faults: list[tuple[object, ...]] = []
        self.seen: list[tuple[str, str]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def relay(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.seen.append((self.command, self.path))
                fault = proxy.faults.pop(0) if proxy.faults else ("none",)
                if fault[0] == "before":
                    self.reply(int(str(fault[1])), dict(fault[2]), b"busy")  # type: ignore[call-overload]
                    return
                if fault[0] == "page":
                    self.reply(200, {"Content-Type": "text/html"}, b"<html>Welcome</html>")
                    return
                if not self.path.startswith(PREFIX + "/"):
                    self.reply(404, {}, b"outside the sub-path")
                    return
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "accept-encoding")}
                where = target + self.path.removeprefix(PREFIX)
                answer = httpx.request(self.command, where, headers=headers, content=body, timeout=60)
                if fault[0] == "after":
                    self.close_connection = True
                    self.connection.close()
                    return
                self.reply(answer.status_code, {"Content-Type": answer.headers["content-type"]}, answer.content)

            def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = do_DELETE = relay

            def log_message(self, *_: object) -> None:
                """Quiet: the tests read `seen`."""

            def finish(self) -> None:
                if not self.connection._closed:
                    super().finish()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}{PREFIX}"


@contextmanager
def flaky_proxy(target: str) -> Iterator[FlakyProxy]:
    """Serve from a thread until the block ends."""
    proxy = FlakyProxy(target)
    thread = threading.Thread(target=proxy.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()
        thread.join(10)
