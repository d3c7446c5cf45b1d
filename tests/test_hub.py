"""Downloads against a server that speaks the hub's protocol: resumed, checked, offline, and refused with advice."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from maskloop_learner.model.backbones import BackboneError
from maskloop_learner.model.hub import released_file

COMMIT = "c0ffee" + "0" * 34
DATA = bytes(range(256)) * 20_000
SHA = hashlib.sha256(DATA).hexdigest()
FETCH = """
import json, sys
from pathlib import Path
from maskloop_learner.model.backbones import BackboneError
from maskloop_learner.model.hub import fetched
try:
    with fetched(sys.argv[1], sys.argv[2], folder=Path(sys.argv[3])) as found:
        size = len(found.path.read_bytes())
        print(json.dumps([size, found.sha256, found.revision, found.kept, str(found.path)]))
except BackboneError as error:
    sys.exit(f"refused: {error}")
"""


class Hub(ThreadingHTTPServer):
    """Two routes of the hub, and ways to misbehave."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Route)
        self.requests: list[tuple[str, str, str | None, str | None]] = []
        """Method, path, range and token of each."""
        self.cut_after: list[int] = []
        """Bytes after which the next answers end."""
        self.stall = False
        """Whether a cut answer hangs rather than ends."""
        self.ranges = True
        self.sha = SHA
        self.elsewhere = False
        """Whether the bytes are on another host."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Route(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args: object) -> None:
        pass

    def note(self) -> None:
        self.server.requests.append(
            (self.command, self.path, self.headers.get("Range"), self.headers.get("Authorization"))
        )

    def answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def do_HEAD(self) -> None:
        self.note()
        about = {"X_Repo_Commit": COMMIT, "Content_Length": "0"}
        if self.path.startswith("/none/"):
            return self.answer(401, X_Error_Code="RepoNotFound", Content_Length="0")
        if self.path.startswith("/gated/"):
            return self.answer(403, X_Error_Code="GatedRepo", Content_Length="0")
        if not self.path.endswith("/folder/towers.bin"):
            return self.answer(404, X_Error_Code="EntryNotFound", **about)
        linked = {"X_Linked_Size": str(len(DATA)), "X_Linked_Etag": f'"{self.server.sha}"'}
        if self.server.elsewhere:
            place = f"http://localhost:{self.server.server_port}/elsewhere"
            return self.answer(302, Location=place, **linked, **about)
        return self.answer(200, ETag=f'"{self.server.sha}"', X_Repo_Commit=COMMIT, Content_Length=str(len(DATA)))

    def do_GET(self) -> None:
        self.note()
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        data = DATA[start:]
        more = {"Content_Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"} if start else {}
        self.answer(206 if start else 200, Content_Length=str(len(data)), **more)
        if self.server.cut_after:
            self.wfile.write(data[: self.server.cut_after.pop(0)])
            self.wfile.flush()
            if self.server.stall:
                time.sleep(60)
            self.close_connection = True
            return
        self.wfile.write(data)


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def start(hub: Hub, home: Path, repo: str = "owner/repo", **env: str) -> subprocess.Popen[str]:
    """Fetch folder/towers.bin in a process of its own."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = [sys.executable, "-c", FETCH, repo, env.pop("file", "folder/towers.bin"), str(home / "downloads")]
    return subprocess.Popen(
        command,
        env=environment | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def fetch(hub: Hub, home: Path, repo: str = "owner/repo", **env: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of that."""
    process = start(hub, home, repo, **env)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_a_file_is_fetched_checked_shown_and_cleared_away(hub: Hub, tmp_path: Path) -> None:
    code, out, err = fetch(hub, tmp_path)
    assert code == 0, err
    size, sha, revision, kept, path = json.loads(out)
    assert (size, sha, revision, kept) == (len(DATA), SHA, COMMIT, False)
    assert not Path(path).exists()
    assert "owner/repo/folder/towers.bin" in err  # the progress bar
    assert [request[:3] for request in hub.requests] == [
        ("HEAD", "/owner/repo/resolve/main/folder/towers.bin", None),
        ("GET", "/owner/repo/resolve/main/folder/towers.bin", None),
    ]


def test_a_broken_connection_goes_on_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = [1_500_000, 1_000_000]
    code, out, err = fetch(hub, tmp_path)
    assert code == 0, err
    assert json.loads(out)[1] == SHA
    ranges = [request[2] for request in hub.requests if request[0] == "GET"]
    assert ranges == [None, "bytes=1500000-", "bytes=2500000-"]


def test_a_killed_download_goes_on_when_it_is_run_again(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.stall = [3_000_000], True
    process = start(hub, tmp_path)
    part = tmp_path / "downloads" / f"{SHA}.part"
    end = time.monotonic() + 90
    while time.monotonic() < end and not (part.exists() and part.stat().st_size >= 1 << 20):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    have = part.stat().st_size
    assert 0 < have < len(DATA)
    hub.stall = False
    code, out, err = fetch(hub, tmp_path)
    assert code == 0, err
    assert json.loads(out)[1] == SHA
    assert hub.requests[-1][2] == f"bytes={have}-"


def test_a_server_without_ranges_gives_the_whole_again(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.ranges = [1_500_000], False
    code, out, err = fetch(hub, tmp_path)
    assert code == 0, err
    assert json.loads(out)[1] == SHA


def test_other_bytes_than_announced_are_refused_and_deleted(hub: Hub, tmp_path: Path) -> None:
    hub.sha = "0" * 64
    code, _, err = fetch(hub, tmp_path)
    assert code == 1
    assert "are not those that the hub has" in err
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_token_is_told_the_hub_but_not_the_host_of_the_bytes(hub: Hub, tmp_path: Path) -> None:
    hub.elsewhere = True
    code, _, err = fetch(hub, tmp_path, HF_TOKEN="hf_secret")
    assert code == 0, err
    told = {(request[0], request[3]) for request in hub.requests}
    assert told == {("HEAD", "Bearer hf_secret"), ("GET", None)}


def test_offline_says_so_and_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    code, _, err = fetch(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert code == 1
    assert "HF_HUB_OFFLINE forbids fetching it" in err
    assert "docs/models.md" in err
    assert hub.requests == []


def test_offline_takes_what_the_hubs_own_cache_has(hub: Hub, tmp_path: Path) -> None:
    cache = tmp_path / "hf" / "hub" / "models--owner--repo"
    path = cache / "snapshots" / COMMIT / "folder" / "towers.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    code, out, err = fetch(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert code == 0, err
    assert json.loads(out) == [len(DATA), SHA, COMMIT, True, str(path)]
    assert path.exists()


def test_refusals_say_what_to_do(hub: Hub, tmp_path: Path) -> None:
    for repo, file, advice in (
        ("none/repo", "folder/towers.bin", "no such repository, or it is private and HF_TOKEN is not set"),
        ("gated/repo", "folder/towers.bin", "is gated: accept its terms"),
        ("owner/repo", "folder/other.bin", "does not exist on"),
    ):
        code, _, err = fetch(hub, tmp_path, repo, file=file)
        assert code == 1
        assert advice in err
        assert "Traceback" not in err


def test_no_network_says_so(hub: Hub, tmp_path: Path) -> None:
    code, _, err = fetch(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert code == 1
    assert "http://127.0.0.1:9 cannot be asked for 'folder/towers.bin'" in err
    assert "copy the file here by other means" in err
    assert "Traceback" not in err


def test_the_released_set_is_found_by_name_in_any_case() -> None:
    end = "trained_models/seed666/MedCLIPSeg_unimedclip_ViT-B-16_latest.pth"
    assert released_file("medclipseg/busi") == f"BUSI/{end}"
    assert released_file("MedCLIPSeg/clinicdb", 25) == f"ClinicDB_25/{end}"
    with pytest.raises(BackboneError, match=r"one of bkai, .*got 'medclipseg/lungs'"):
        released_file("medclipseg/lungs")
    with pytest.raises(BackboneError, match="percent must be one of"):
        released_file("medclipseg/busi", 30)
