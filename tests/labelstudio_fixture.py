"""A real Label Studio for the slow tests: own process, own data folder, a free loopback port.

The program is $MASKLOOP_TEST_LABEL_STUDIO, else .venv-label-studio/bin/label-studio in the repository;
without either the tests that need it are skipped. The first boot takes about 30 s (migrations); its database is kept in
the temporary folder for later ones.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
BOOT_SECONDS = 420.0
OPEN_NETWORK = {"USE_DEFAULT_BANNED_SUBNETS": "false", "USER_ADDITIONAL_BANNED_SUBNETS": "169.254.0.0/16"}


@dataclass
class LabelStudioServer:
    """A running Label Studio. `token` is the admin's legacy token, `pat` a personal access token."""

    url: str
    data: Path
    program: str
    env: dict[str, str] = field(repr=False)
    process: "subprocess.Popen[bytes]"
    username: str = "admin@maskloop.test"
    password: str = "maskloop-test-password"
    token: str = "0123456789abcdef0123456789abcdef01234567"
    pat: str = ""

    @property
    def log(self) -> Path:
        """File with everything Label Studio printed."""
        return self.data / "label-studio.log"

    @property
    def files(self) -> Path:
        """Root of what local-files storages may serve; each storage is a folder in it."""
        return self.data / "files"

    def api(self, method: str, path: str, **arguments: object) -> httpx.Response:
        """One request as the admin with the legacy token, for what a test arranges or checks itself."""
        with httpx.Client(base_url=self.url, timeout=60, headers={"Authorization": f"Token {self.token}"}) as client:
            return client.request(method, path, **arguments)  # type: ignore[arg-type]

    def new_user(self, email: str) -> str:
        """Add an annotator to the admin's organization; returns the legacy token."""
        invite = self.api("GET", "/api/invite").raise_for_status().json()["invite_url"]
        with httpx.Client(base_url=self.url, timeout=60, follow_redirects=True) as client:
            client.get(invite).raise_for_status()
            form = {
                "csrfmiddlewaretoken": client.cookies["csrftoken"],
                "email": email,
                "password": self.password,
                "allow_newsletters": "false",
            }
            client.post(invite, data=form, headers={"Referer": self.url + "/"}).raise_for_status()
            return str(client.get("/api/current-user/token").raise_for_status().json()["token"])

    def stop(self) -> None:
        """End the process and its children; the data folder stays."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(15)

    def start(self, **environment: str) -> None:
        """Start it (again) on the same port and data, with some variables changed."""
        self.env |= environment
        self.process = _launch(self.program, self.url, self.data, self.env)
        _wait(self)


def find_program() -> str | None:
    """Path of the label-studio program the slow tests use, or None."""
    named = os.environ.get("MASKLOOP_TEST_LABEL_STUDIO")
    path = Path(named) if named else REPOSITORY / ".venv-label-studio" / "bin" / "label-studio"
    return str(path) if path.exists() else None


def start_label_studio(
    data: Path, *, program: str, template: Path | None = None, network: dict[str, str] | None = None
) -> LabelStudioServer:
    """Start a Label Studio in `data` and wait until it answers.

    `template` is the data folder of another one, whose database is copied; default: an empty one.
    `network` are the variables about banned addresses; default: loopback is allowed.
    """
    server = _start(data, program, template or keep_empty(program), network)
    if template is None:
        server.pat = str(server.api("POST", "/api/token/").raise_for_status().json()["token"])
    return server


def keep_empty(program: str) -> Path:
    """Data folder of an empty Label Studio with the admin, made once on this machine: migrations take long.

    Processes that want it at once wait for the first.
    """
    state = f"{Path(program).resolve()} {Path(program).stat().st_mtime_ns}"
    base = Path(tempfile.gettempdir()) / f"maskloop-tests-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    kept = base / f"label-studio-{hashlib.sha256(state.encode()).hexdigest()[:12]}"
    with open(f"{kept}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=base) as folder:
                _start(Path(folder) / "data", program, None, None).stop()
                (Path(folder) / "data").rename(kept)
    return kept


def _start(data: Path, program: str, template: Path | None, network: dict[str, str] | None) -> LabelStudioServer:
    (data / "files").mkdir(parents=True, exist_ok=True)
    if template is not None:
        if (template / ".env").exists():  # the key that signs tokens
            shutil.copy(template / ".env", data / ".env")
        name = "label_studio.sqlite3"
        with closing(sqlite3.connect(template / name)) as old, closing(sqlite3.connect(data / name)) as new:
            old.backup(new)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LABEL_STUDIO_", "HEARTEX_", "DJANGO_"))}
    env |= OPEN_NETWORK if network is None else network
    server = LabelStudioServer(f"http://127.0.0.1:{port}", data, program, env, process=None)  # type: ignore[arg-type]
    env |= {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_USERNAME": server.username,
        "LABEL_STUDIO_PASSWORD": server.password,
        "LABEL_STUDIO_USER_TOKEN": server.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_HOST": server.url,
        "LOCAL_FILES_SERVING_ENABLED": "true",
        "LOCAL_FILES_DOCUMENT_ROOT": str(server.files),
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "LATEST_VERSION_CHECK": "false",
        "OMP_NUM_THREADS": "1",
    }
    server.start()
    return server


def _launch(program: str, url: str, data: Path, env: dict[str, str]) -> "subprocess.Popen[bytes]":
    command = [program, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", url.rsplit(":", 1)[1]]
    with (data / "label-studio.log").open("ab") as log:
        return subprocess.Popen(command, env=env, cwd=data, stdout=log, stderr=log, start_new_session=True)


def _wait(server: LabelStudioServer) -> None:
    end = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < end:
        if server.process.poll() is not None:
            break
        try:
            if httpx.get(server.url + "/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.25)
    tail = server.log.read_text(errors="replace")[-3000:]
    server.stop()
    raise RuntimeError(f"{server.program} did not come up at {server.url}; its last words:\n{tail}")


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    """One Label Studio 1.23 for the session, loopback allowed, with a legacy token and a PAT."""
    program = find_program()
    if program is None:
        pytest.skip("no Label Studio: set MASKLOOP_TEST_LABEL_STUDIO or run `make test-slow`")
    server = start_label_studio(tmp_path_factory.mktemp("label-studio"), program=program)
    try:
        yield server
    finally:
        server.stop()
