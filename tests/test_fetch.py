"""The image fetcher against real servers on loopback: what it reads, what it refuses, where the token goes."""

import base64
import ipaddress
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pool_fixture import add_project
from s3_fixture import S3Server
from sqlalchemy import select

from maskloop_backend import addresses, fetch
from maskloop_backend.doctor import examine
from maskloop_backend.fetch import FetchError, fetch_image
from maskloop_backend.intake import IntakeError, Wanted, take_in
from maskloop_learner.hosts import Hosts
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Task
from maskloop_learner.settings import Settings

TOKEN = {"Authorization": "Token secret-of-label-studio"}
Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """An HTTP server on a free loopback port; remembers each request's path and headers."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.seen.append((self.path, dict(self.headers)))
                outer.answers.get(self.path.split("?")[0], status(404))(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def tokens(self) -> list[str | None]:
        return [headers.get("Authorization") for _, headers in self.seen]

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def body(data: bytes, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(data)

    return answer


def status(code: int, location: str | None = None) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        if location is not None:
            request.send_header("Location", location)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


@pytest.fixture
def label_studio() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def stranger() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def loopback_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a server on loopback stand for one of the internet."""
    real = addresses.forbidden
    monkeypatch.setattr(addresses, "forbidden", lambda a: None if str(a) == "127.0.0.1" else real(a))


def get(url: str, server: Server | str, *, max_bytes: int = 1000, timeout: float = 5.0, hosts: str = "") -> bytes:
    base = server if isinstance(server, str) else server.url
    return fetch_image(
        url,
        label_studio_url=base,
        headers_for_label_studio=lambda: TOKEN,
        max_bytes=max_bytes,
        timeout=timeout,
        task=7,
        image_hosts=Hosts.parse(hosts),
    )


def test_label_studio_is_asked_with_the_token_by_relative_and_absolute_address(label_studio: Server) -> None:
    label_studio.answers["/data/upload/1/a%20b.png"] = body(b"picture")
    assert get("/data/upload/1/a b.png", label_studio) == b"picture"
    assert get(f"{label_studio.url}/data/upload/1/a%20b.png", label_studio) == b"picture"
    # Local storage writes LABEL_STUDIO_HOST into addresses: another name of the same loopback port.
    assert get(f"http://localhost:{label_studio.port}/data/upload/1/a%20b.png", label_studio) == b"picture"
    assert label_studio.tokens() == [TOKEN["Authorization"]] * 3
    assert label_studio.seen[2][1]["Host"] == f"127.0.0.1:{label_studio.port}"


@pytest.mark.parametrize("url", ["/data/upload/x.png", "/ls/data/upload/x.png"])
def test_label_studio_below_a_sub_path(label_studio: Server, url: str) -> None:
    label_studio.answers["/ls/data/upload/x.png"] = body(b"picture")
    assert get(url, label_studio.url + "/ls/") == b"picture"
    assert get(url, label_studio.url + "/ls") == b"picture"


def test_query_is_kept(label_studio: Server) -> None:
    label_studio.answers["/data/local-files/"] = body(b"picture")
    assert get("/data/local-files/?d=some folder/ä.png", label_studio) == b"picture"
    assert label_studio.seen[0][0] == "/data/local-files/?d=some%20folder/%C3%A4.png"


def test_the_token_stays_when_label_studio_redirects_elsewhere(
    label_studio: Server, stranger: Server, loopback_is_public: None
) -> None:
    label_studio.answers["/tasks/1/presign/"] = status(303, f"{stranger.url}/bucket/x.png?signature=s")
    stranger.answers["/bucket/x.png"] = body(b"picture")
    assert get("/tasks/1/presign/", label_studio) == b"picture"
    assert label_studio.tokens() == [TOKEN["Authorization"]]
    assert stranger.tokens() == [None]
    assert stranger.seen[0][0] == "/bucket/x.png?signature=s"


def test_the_token_does_not_come_back_after_a_detour(
    label_studio: Server, stranger: Server, loopback_is_public: None
) -> None:
    label_studio.answers["/data/a.png"] = status(302, f"{stranger.url}/b")
    label_studio.answers["/data/c.png"] = body(b"picture")
    stranger.answers["/b"] = status(302, f"{label_studio.url}/data/c.png")
    assert get("/data/a.png", label_studio) == b"picture"
    assert label_studio.tokens() == [TOKEN["Authorization"], None]
    assert stranger.tokens() == [None]


def test_a_strangers_address_gets_no_token_and_may_not_lead_to_label_studio(
    label_studio: Server, stranger: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_studio.answers["/data/a.png"] = body(b"picture")
    stranger.answers["/x"] = status(302, f"{label_studio.url}/data/a.png")
    # Only the first hop is let through: the second is loopback and the chain began elsewhere.
    real, asked = addresses.forbidden, []

    def once(address: addresses.Address) -> str | None:
        asked.append(address)
        return None if len(asked) == 1 else real(address)

    monkeypatch.setattr(addresses, "forbidden", once)
    with pytest.raises(FetchError, match="is loopback"):
        get(f"{stranger.url}/x", label_studio)
    assert stranger.tokens() == [None]
    assert label_studio.seen == []


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_label_studio_may_redirect_within_itself(label_studio: Server, code: int) -> None:
    label_studio.answers["/data/a"] = status(code, "b")
    label_studio.answers["/data/b"] = body(b"picture")
    assert get("/data/a", label_studio) == b"picture"
    assert label_studio.tokens() == [TOKEN["Authorization"]] * 2


def test_redirects_into_the_network_are_refused(label_studio: Server, stranger: Server) -> None:
    for number, goal in enumerate(
        [
            "http://169.254.169.254/latest/meta-data/",
            f"{stranger.url}/secret",
            f"http://localhost:{stranger.port}/secret",
            f"http://[::1]:{stranger.port}/secret",
            f"//127.0.0.1:{stranger.port}/secret",
        ]
    ):
        label_studio.answers[f"/data/{number}"] = status(302, goal)
        with pytest.raises(FetchError, match=r"which is (loopback|link-local)") as caught:
            get(f"/data/{number}", label_studio)
        assert "public address" in caught.value.fix
        nameable = "loopback" in caught.value.reason
        assert ("MASKLOOP_IMAGE_HOSTS" in caught.value.fix) == nameable
        assert caught.value.retry == nameable, "where the setting cures it"
    assert stranger.seen == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "224.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
    ],
)
def test_addresses_inside_the_network_are_refused_however_they_are_spelt(
    host: str, label_studio: Server, stranger: Server
) -> None:
    with pytest.raises(FetchError, match=r"leads to .*, which is"):
        get(f"http://{host}:{stranger.port}/x.png", label_studio)
    assert stranger.seen == []


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("8.8.8.8", None),
        ("2606:4700::1111", None),
        ("::ffff:8.8.8.8", None),
        ("64:ff9b::8.8.8.8", None),
        ("64:ff9b::169.254.169.254", "link-local"),
        ("64:ff9b:1::1", "reserved"),
        ("2002:a00:1::", "private"),
        ("::10.0.0.1", "private"),
        ("2001::1", "reserved"),
        ("fec0::1", "reserved"),
        ("ff02::1", "multicast"),
        ("233.252.0.1", "multicast"),
        ("198.18.0.1", "private"),
        ("192.0.2.1", "private"),
        ("240.0.0.1", "private"),
        ("100.100.100.200", "a metadata service"),
    ],
)
def test_forbidden(address: str, reason: str | None) -> None:
    assert addresses.forbidden(ipaddress.ip_address(address)) == reason


def test_one_bad_address_among_good_ones_is_enough(label_studio: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 80)) for a in ("8.8.8.8", "10.1.2.3")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found)
    with pytest.raises(FetchError, match=r"10\.1\.2\.3, which is private"):
        get("http://both.example/x.png", label_studio)


def test_a_name_is_resolved_once_and_connected_by_number(
    label_studio: Server, stranger: Server, loopback_is_public: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = socket.getaddrinfo, []

    def rebinding(host: str, *arguments: Any, **named: Any) -> Any:
        if host != "images.example":
            return real(host, *arguments, **named)
        asked.append(host)
        number = "127.0.0.1" if len(asked) == 1 else "10.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, stranger.port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    stranger.answers["/x.png"] = body(b"picture")
    assert get(f"http://images.example:{stranger.port}/x.png", label_studio) == b"picture"
    assert asked == ["images.example"]
    assert stranger.seen[0][1]["Host"] == f"images.example:{stranger.port}"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program to make a certificate")
def test_tls_checks_the_name_not_the_number(
    label_studio: Server,
    stranger: Server,
    loopback_is_public: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=images.example"]
    command += ["-addext", "subjectAltName=DNS:images.example", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_servername_callback(lambda _socket, name, _context: names.append(name))
    stranger.http.socket = context.wrap_socket(stranger.http.socket, server_side=True)
    stranger.answers["/x.png"] = body(b"picture")
    real = socket.getaddrinfo
    loopback = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", stranger.port))]
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda h, *a, **k: loopback if str(h).endswith(".example") else real(h, *a, **k)
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    fetch._tls.cache_clear()
    try:
        assert get(f"https://images.example:{stranger.port}/x.png", label_studio) == b"picture"
        assert names == ["images.example"]
        with pytest.raises(FetchError, match="certificate"):
            get(f"https://other.example:{stranger.port}/x.png", label_studio)
    finally:
        fetch._tls.cache_clear()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("data:image/png;base64,AAAA", "scheme 'data'"),
        ("file:///etc/passwd", "scheme 'file'"),
        ("ftp://images.example/x.png", "scheme 'ftp'"),
        ("hdfs://bucket/x.png", "scheme 'hdfs'"),
        ("x.png", "scheme 'none'"),
        ("", "scheme 'none'"),
        ("//example.org/x.png", "scheme 'none'"),
        ("http:///x.png", "no valid host"),
        ("http://exa mple.org/", "no valid host"),
        ("http://a.example\\@127.0.0.1/", "no valid host"),
        ("http://a.example:99999/", "not an address"),
        ("http://a..example/", "no valid host"),
        ("http://someone:hunter2@a.example/x.png", "user name or password"),
        ("/api/token/", "not a file"),
        ("/data/../api/token/", "not a file"),
        ("/data/%2e%2e/api/token/", "not a file"),
        ("/%61pi/token/", "not a file"),
        ("/data//../api/users", "not a file"),
        ("/logout", "not a file"),
    ],
)
def test_what_is_not_an_image_address_is_refused_with_a_reason(url: str, reason: str, label_studio: Server) -> None:
    with pytest.raises(FetchError, match=reason) as caught:
        get(url, label_studio)
    assert "hunter2" not in str(caught.value)
    assert caught.value.fix
    assert label_studio.seen == []


def test_a_redirect_to_a_page_of_label_studio_is_refused(label_studio: Server) -> None:
    label_studio.answers["/data/a"] = status(302, "/api/users/")
    label_studio.answers["/data/b"] = status(302, "/user/login/?next=/data/b")
    with pytest.raises(FetchError, match="not a file"):
        get("/data/a", label_studio)
    with pytest.raises(FetchError, match=r"login page.*maskloop connect"):
        get("/data/b", label_studio)
    assert [path for path, _ in label_studio.seen] == ["/data/a", "/data/b"]


def test_five_redirects_are_followed_and_no_more(label_studio: Server) -> None:
    for number in range(6):
        label_studio.answers[f"/data/{number}"] = status(302, f"/data/{number + 1}")
    label_studio.answers["/data/6"] = body(b"picture")
    assert get("/data/1", label_studio) == b"picture"
    with pytest.raises(FetchError, match="more than 5 redirects"):
        get("/data/0", label_studio)


@pytest.mark.parametrize(
    ("code", "retry", "fix"),
    [(404, False, "address"), (401, True, "maskloop connect"), (500, True, "address"), (304, False, "address")],
)
def test_statuses(label_studio: Server, code: int, retry: bool, fix: str) -> None:
    label_studio.answers["/data/a"] = status(code)
    with pytest.raises(FetchError, match=f"status {code}") as caught:
        get("/data/a?d=x", label_studio)
    assert (caught.value.retry, caught.value.url) == (retry, f"{label_studio.url}/data/a?d=x")
    assert fix in caught.value.fix


def test_a_foreign_signature_stays_out_of_the_message(
    label_studio: Server, stranger: Server, loopback_is_public: None
) -> None:
    with pytest.raises(FetchError, match="status 404") as caught:
        get(f"{stranger.url}/x.png?X-Amz-Signature=hunter2", label_studio)
    assert "hunter2" not in str(caught.value)


def test_too_large_with_and_without_a_length(label_studio: Server) -> None:
    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                request.wfile.write(b"x" * 65536)
        except OSError:
            stopped.set()

    stopped = threading.Event()
    label_studio.answers |= {"/data/a": body(b"x" * 1001), "/data/b": body(b"x" * 1000), "/data/c": endless}
    assert len(get("/data/b", label_studio)) == 1000
    for path in ("/data/a", "/data/c"):
        with pytest.raises(FetchError, match=r"larger than 0\.001 MB.*MASKLOOP_MAX_IMAGE_MEGABYTES"):
            get(path, label_studio)
    assert stopped.wait(5)


@pytest.mark.parametrize("part", ["silence", "head", "body"])
def test_a_server_that_drips_is_given_up(label_studio: Server, part: str) -> None:
    stop = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        if part == "body":
            request.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        try:
            while not stop.wait(0.05):
                if part != "silence":
                    request.wfile.write(b"x")
        except OSError:
            pass  # the fetcher hung up, as it should

    label_studio.answers["/data/a"] = drip
    started = time.monotonic()
    with pytest.raises(FetchError, match=r"no complete answer within 0\.5 s") as caught:
        get("/data/a", label_studio, timeout=0.5)
    stop.set()
    assert caught.value.retry
    assert 0.4 < time.monotonic() - started < 1.5


def test_broken_answers(label_studio: Server) -> None:
    def cut(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        request.close_connection = True

    label_studio.answers |= {"/data/cut": cut, "/data/zip": body(b"x", Content_Encoding="gzip")}
    with pytest.raises(FetchError, match="cannot be read"):
        get("/data/cut", label_studio)
    with pytest.raises(FetchError, match="content encoding 'gzip'"):
        get("/data/zip", label_studio)
    label_studio.close()
    with pytest.raises(FetchError, match="cannot be read") as caught:
        get("/data/x", label_studio)
    assert caught.value.retry


def test_an_unknown_name(label_studio: Server) -> None:
    with pytest.raises(FetchError, match="cannot be read"):
        get("http://no-such-host.invalid/x.png", label_studio)


RESOLVED = "/tasks/7/resolve/"


def test_a_cloud_address_is_asked_of_label_studio_which_redirects_to_the_storage(
    label_studio: Server, stranger: Server
) -> None:
    label_studio.answers[f"/ls{RESOLVED}"] = status(303, f"{stranger.url}/scans/x.png?X-Amz-Signature=s")
    stranger.answers["/scans/x.png"] = body(b"picture")
    for url in ("s3://scans/a folder/x.png", "gs://scans/ä.png", "azure-blob://scans/x.png"):
        base = label_studio.url + "/ls"
        assert get(url, base, hosts=f"127.0.0.1:{stranger.port}") == b"picture"
        path, headers = label_studio.seen[-1]
        assert path.startswith(f"/ls{RESOLVED}?fileuri=")
        assert base64.urlsafe_b64decode(path.split("fileuri=")[1]).decode() == url
        assert headers["Authorization"] == TOKEN["Authorization"]
    assert stranger.tokens() == [None] * 3, "the storage gets a signature, not the token"


def test_label_studio_may_pass_a_storages_file_on_itself(label_studio: Server) -> None:
    label_studio.answers[RESOLVED] = body(b"picture")
    assert get("s3://scans/x.png", label_studio) == b"picture"
    assert get(f"{label_studio.url}{RESOLVED}?fileuri=czM6Ly9zY2Fucy94LnBuZw==", label_studio) == b"picture"
    label_studio.answers["/projects/3/presign/"] = body(b"old")
    assert get("/projects/3/presign/?fileuri=x", label_studio) == b"old"


@pytest.mark.parametrize(
    ("code", "retry", "fix"),
    [
        (401, True, "maskloop connect"),
        (404, True, "No storage of the project"),
        (424, True, "cannot read it from its storage"),
        (500, True, "address"),
    ],
)
def test_what_label_studio_cannot_resolve_names_the_cloud_address(
    label_studio: Server, code: int, retry: bool, fix: str
) -> None:
    label_studio.answers[RESOLVED] = status(code)
    with pytest.raises(FetchError, match=f"status {code}") as caught:
        get("s3://scans/x.png", label_studio)
    assert caught.value.url == f"s3://scans/x.png (through {label_studio.url}{RESOLVED})"
    assert caught.value.retry == retry
    assert fix in caught.value.fix


@pytest.mark.parametrize("parameter", ["X-Amz-Signature", "X-Goog-Signature", "Signature", "sig"])
@pytest.mark.parametrize(
    ("code", "retry", "fix"),
    [(400, True, "pre-signed"), (403, True, "pre-signed"), (404, False, "address"), (503, True, "address")],
)
def test_a_storages_refusal_keeps_the_signature_secret(
    label_studio: Server, stranger: Server, parameter: str, code: int, retry: bool, fix: str
) -> None:
    """A signature that has run out is made anew at the next try; a file that is gone stays gone."""
    label_studio.answers[RESOLVED] = status(303, f"{stranger.url}/scans/x.png?a=b&{parameter}=hunter2")
    stranger.answers["/scans/x.png"] = status(code)
    with pytest.raises(FetchError, match=f"status {code}") as caught:
        get("s3://scans/x.png", label_studio, hosts=f"127.0.0.1:{stranger.port}")
    assert "hunter2" not in str(caught.value)
    assert (caught.value.url, caught.value.retry) == (f"{stranger.url}/scans/x.png?...", retry)
    assert fix in caught.value.fix


def test_a_storage_that_is_down_is_tried_again(label_studio: Server, stranger: Server) -> None:
    stranger.close()
    label_studio.answers[RESOLVED] = status(303, f"{stranger.url}/scans/x.png?X-Amz-Signature=hunter2")
    with pytest.raises(FetchError, match="cannot be read") as caught:
        get("s3://scans/x.png", label_studio, hosts=f"127.0.0.1:{stranger.port}")
    assert caught.value.retry
    assert "hunter2" not in str(caught.value)


def test_a_presign_redirect_into_the_network_needs_a_named_host(label_studio: Server, stranger: Server) -> None:
    label_studio.answers[RESOLVED] = status(303, f"{stranger.url}/scans/x.png?X-Amz-Signature=hunter2")
    for hosts in ("", "127.0.0.1", "localhost", f"127.0.0.1:{stranger.port + 1}"):
        with pytest.raises(FetchError, match="is loopback") as caught:
            get("s3://scans/x.png", label_studio, hosts=hosts)
        assert f"If 127.0.0.1:{stranger.port} is an image server" in caught.value.fix
        assert "hunter2" not in str(caught.value)
    assert stranger.seen == []


def test_a_named_host_is_read_by_its_name_only_and_without_the_token(label_studio: Server, stranger: Server) -> None:
    stranger.answers["/x.png"] = body(b"picture")
    hosts = f"images.lan, 127.0.0.1:{stranger.port}"
    assert get(f"{stranger.url}/x.png", label_studio, hosts=hosts) == b"picture"
    for host in ("localhost", "2130706433", "[::ffff:127.0.0.1]"):
        with pytest.raises(FetchError, match="is loopback"):
            get(f"http://{host}:{stranger.port}/x.png", label_studio, hosts=hosts)
    stranger.answers["/y.png"] = status(302, f"{label_studio.url}/data/a.png")
    label_studio.answers["/data/a.png"] = body(b"secret")
    with pytest.raises(FetchError, match="is loopback"):
        get(f"{stranger.url}/y.png", label_studio, hosts=hosts)
    assert stranger.tokens() == [None, None]
    assert label_studio.seen == []


@pytest.mark.parametrize("address", ["169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "0.0.0.0"])
def test_a_named_host_that_leads_to_a_metadata_service_is_refused(
    label_studio: Server, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = [(family, socket.SOCK_STREAM, 6, "", (address, 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found)
    with pytest.raises(FetchError, match=r"which is (a metadata|link-local|unspecified)") as caught:
        get("http://images.lan/x.png", label_studio, hosts="images.lan")
    assert "correct its name" in caught.value.fix


@pytest.mark.parametrize(
    "path", ["/data/local-files/?d=a.png", "/data/upload/1/a.png", "/tasks/7/resolve/?fileuri=eA=="]
)
def test_label_studio_under_another_name_is_recognised(label_studio: Server, stranger: Server, path: str) -> None:
    with pytest.raises(FetchError, match="is loopback") as caught:
        get(stranger.url + path, label_studio)
    assert "LABEL_STUDIO_HOST" in caught.value.fix
    stranger.answers[path.split("?")[0]] = status(401)
    with pytest.raises(FetchError, match="status 401") as caught:
        get(stranger.url + path, label_studio, hosts=f"127.0.0.1:{stranger.port}")
    assert "LABEL_STUDIO_HOST" in caught.value.fix
    assert stranger.tokens() == [None]


def test_real_signatures_of_a_real_storage(label_studio: Server, s3: S3Server) -> None:
    """The file, a missing one, a tampered and an expired signature, and a bucket without one, over real HTTP."""
    s3.put("fetch-test", {"a/b ä.png": b"picture"})
    hosts = f"127.0.0.1:{s3.port}"

    def ask(url: str) -> bytes:
        label_studio.answers[RESOLVED] = status(303, url)
        return get("s3://fetch-test/x", label_studio, hosts=hosts)

    good = s3.presigned("fetch-test", "a/b ä.png")
    assert ask(good) == b"picture"
    with pytest.raises(FetchError, match="status 404") as caught:
        ask(s3.presigned("fetch-test", "none.png"))
    assert not caught.value.retry
    for bad in (good[:-4] + "beef", s3.presigned("fetch-test", "a/b ä.png", seconds=-1)):
        with pytest.raises(FetchError, match=r"status 403.*pre-signed") as caught:
            ask(bad)
        assert caught.value.retry
        assert "Signature" not in str(caught.value)
    with pytest.raises(FetchError, match=r"status 403.*permission"):
        get(f"{s3.url}/fetch-test/a/b ä.png", label_studio, hosts=hosts)


def intake(pool: Pool, settings: Settings, label_studio: Server, url: str) -> str:
    """Take in a task's image as sync does, which fails; returns what the task says."""
    project = add_project(pool)
    wanted = Wanted(project, label_studio.url, 5, "image", {"image": url})
    with pytest.raises(IntakeError):
        take_in(wanted, pool=pool, settings=settings, headers_for=lambda _: TOKEN, timeout=5.0)
    with pool.read() as session:
        task = session.scalars(select(Task)).one()
    assert task.state == "failed"
    return task.error or ""


def test_the_doctor_names_the_setting_for_image_hosts(
    pool: Pool, settings: Settings, label_studio: Server, stranger: Server
) -> None:
    error = intake(pool, settings, label_studio, f"{stranger.url}/x.png")
    findings = [finding for section in examine(settings) for finding in section.findings]
    (said,) = [finding for finding in findings if finding.what == f"Task 5: {error}"]
    assert f"If 127.0.0.1:{stranger.port} is an image server of yours, name it in MASKLOOP_IMAGE_HOSTS" in said.what
    assert (said.level, said.fix) == ("problem", "It is tried again by itself.")


def test_what_is_no_image_is_named_without_its_signature(
    pool: Pool, settings: Settings, label_studio: Server, stranger: Server
) -> None:
    settings.image_hosts = f"127.0.0.1:{stranger.port}"
    stranger.answers["/x.png"] = body(b"<html>")
    error = intake(pool, settings, label_studio, f"{stranger.url}/x.png?X-Amz-Signature=hunter2")
    assert f"{stranger.url}/x.png" in error
    assert "hunter2" not in error
