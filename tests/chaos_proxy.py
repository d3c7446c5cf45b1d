"""A proxy between two servers that fails at random, is slow, or loses, doubles and reorders what passes."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

PATIENCE = 30.0
HOP_BY_HOP = {"host", "accept-encoding", "connection", "content-length", "transfer-encoding", "content-encoding"}


@dataclass(frozen=True)
class Weather:
    """What happens to requests; shares are 0..1 and are drawn one after the other."""

    error: float = 0.0
    """Answered with `status`; the server is not asked."""
    status: int = 500
    cut: float = 0.0
    """The server is asked, and its answer is lost."""
    delay: float = 0.0
    """Seconds before each request."""
    lost: float = 0.0
    """Answered with 200; the server is not asked."""
    doubled: float = 0.0
    """Sent on twice."""
    held: bool = False
    """Answered with 200 and kept until `release`, which sends the newest first."""


CALM = Weather()


@dataclass(frozen=True)
class Request:
    """One request on its way."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class ChaosProxy:
    """Listens at `url` and sends on to `target`, under `weather`."""

    def __init__(self, target: Callable[[], str], *, seed: int) -> None:
        self.weather = CALM
        self.met = 0
        """How many requests something happened to since the weather changed."""
        self._target, self._random = target, random.Random(seed)
        self._held: list[Request] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def relay(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
                answer = proxy.handle(Request(self.command, self.path, headers, body))
                if answer is None:
                    self.close_connection = True
                    return
                status, kind, content = answer
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client was killed, or waits no more

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = relay

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def change(self, weather: Weather) -> None:
        """From now on it is so."""
        with self._lock:
            self.weather, self.met = weather, 0

    def release(self) -> int:
        """Send on what is held, the newest first; return how many."""
        with self._lock:
            held, self._held = self._held[::-1], []
        for request in held:
            self._send(request)
        return len(held)

    def handle(self, request: Request) -> tuple[int, str, bytes] | None:
        """The answer; None: the connection is cut."""
        with self._lock:
            weather = self.weather
            error, cut, lost, doubled = (self._random.random() for _ in range(4))
            touched = weather.held or weather.delay or error < weather.error or cut < weather.cut
            self.met += bool(touched or lost < weather.lost or doubled < weather.doubled)
            if weather.held:
                self._held.append(request)
        if weather.delay:
            time.sleep(weather.delay)
        if weather.held or lost < weather.lost:
            return 200, "application/json", b"{}"
        if error < weather.error:
            return weather.status, "text/plain", b"stormy"
        if doubled < weather.doubled:
            self._send(request)
        answer = self._send(request)
        return None if cut < weather.cut else answer

    def _send(self, request: Request) -> tuple[int, str, bytes]:
        try:
            answer = httpx.request(
                request.method,
                self._target() + request.path,
                headers=request.headers,
                content=request.body,
                timeout=PATIENCE,
            )
        except httpx.TransportError as error:
            return 502, "text/plain", str(error).encode()
        return answer.status_code, answer.headers.get("content-type", "text/plain"), answer.content


@contextmanager
def chaos_proxy(target: Callable[[], str], *, seed: int) -> Iterator[ChaosProxy]:
    """Serve from a thread until the block ends."""
    proxy = ChaosProxy(target, seed=seed)
    thread = threading.Thread(target=proxy.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()
        thread.join(10)
