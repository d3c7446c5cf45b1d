"""The web process as a process: what it imports, its memory, a busy port, how it stops."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from pool_fixture import add_model, add_project, add_task
from sqlalchemy import update
from valkey_fixture import FLOORS, Valkey, wait_until
from web_fixture import add_version, queued

from maskloop_backend.credentials import Credentials, load_credentials
from maskloop_backend.labelstudio.tokens import save_token
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project
from maskloop_learner.settings import Settings

CODE = (
    "from maskloop_backend.web.server import serve; from maskloop_learner.settings import get_settings;"
    "serve(get_settings())"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Web:
    """A web process of a home folder."""

    def __init__(self, home: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = home.parent / "web.log"
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE],
            env=os.environ | {"PYTHONPATH": FLOORS, "MASKLOOP_HOME": str(home), "MASKLOOP_PORT": str(port)},
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )

    def wait(self) -> Credentials:
        """Wait until it answers."""

        def up() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            try:
                return httpx.get(self.url + "/health").status_code == 200
            except httpx.TransportError:
                return False

        wait_until("up", up, timeout=30)
        return load_credentials(self.log.parent / "home")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def test_the_web_process_imports_no_torch() -> None:
    code = "import sys, maskloop_backend.web.server;"
    code += "heavy = {'torch', 'open_clip', 'label_studio_sdk', 'pandas'};"
    code += "print(sorted({name.split('.')[0] for name in sys.modules} & heavy))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": FLOORS},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_it_serves_with_generated_credentials_in_little_memory_and_stops_at_once(
    pool: Pool, settings: Settings
) -> None:
    add_project(pool, ls_id=1)
    web = Web(settings.home, free_port())
    try:
        credentials = web.wait()
        assert httpx.get(web.url + "/versions").status_code == 401
        headers = {"Authorization": credentials.header}
        assert httpx.get(web.url + "/versions", headers=headers).json() == {"versions": []}
        assert httpx.get(web.url + "/metrics", headers=headers).status_code == 200
        body = {"tasks": [{"id": 1, "data": {}}], "project": "1"}
        assert httpx.post(web.url + "/predict", headers=headers, json=body).status_code == 200
        maps = {Path(entry.path).name for entry in psutil.Process(web.process.pid).memory_maps()}
        assert not any(name.startswith("libtorch") for name in maps)
        assert psutil.Process(web.process.pid).memory_info().rss < 250e6
        started = time.monotonic()
        web.process.send_signal(signal.SIGTERM)
        assert web.process.wait(10) == 0
        assert time.monotonic() - started < 5
    finally:
        web.end()
    log = web.log.read_text()
    assert f"web listens on {web.url}" in log
    assert "GET /versions" not in log
    assert credentials.password not in log
    assert "Traceback" not in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_time_while_a_prediction_is_waited_for(
    pool: Pool, settings: Settings, valkey: Valkey, number: signal.Signals
) -> None:
    project = add_project(pool, ls_id=1)
    add_version(pool, project, add_model(pool, project), "v1")
    add_task(pool, project, 5)
    web = Web(settings.home, free_port())
    try:
        headers = {"Authorization": web.wait().header}
        answers: list[httpx.Response] = []
        body = {"tasks": [{"id": 5, "data": {}}], "project": "1"}
        thread = threading.Thread(
            target=lambda: answers.append(httpx.post(web.url + "/predict", headers=headers, json=body, timeout=30))
        )
        thread.start()
        wait_until("queued", lambda: queued(valkey.connect()))
        started = time.monotonic()
        web.process.send_signal(number)
        assert web.process.wait(10) == 0
        assert time.monotonic() - started < 5
        thread.join(5)
    finally:
        web.end()
    assert answers[0].json()["results"] == [{"result": [], "score": 1.0, "model_version": "maskloop-unanswered"}]
    assert "the web process is stopping" in web.log.read_text()


def test_it_stops_in_time_while_a_download_hangs(pool: Pool, settings: Settings) -> None:
    project = add_project(pool, ls_id=1)
    add_version(pool, project, add_model(pool, project), "v1")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never says a word
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pool.write() as session:
            session.execute(update(Project).values(ls_url=url))
        save_token(settings.home, url, "0123456789abcdef0123456789abcdef01234567")
        web = Web(settings.home, free_port())
        try:
            headers = {"Authorization": web.wait().header}
            body = {"tasks": [{"id": 5, "data": {"image": "/data/x.png"}}], "project": "1"}

            answers: list[httpx.Response] = []
            thread = threading.Thread(
                target=lambda: answers.append(httpx.post(web.url + "/predict", headers=headers, json=body, timeout=30))
            )
            thread.start()
            silent.settimeout(10)
            connection, _ = silent.accept()
            assert b"GET /data/x.png" in connection.recv(1000)
            started = time.monotonic()
            web.process.send_signal(signal.SIGINT)
            assert web.process.wait(10) == 0
            assert time.monotonic() - started < 3
            thread.join(5)
            connection.close()
        finally:
            web.end()
    assert answers[0].json()["results"][0]["model_version"] == "maskloop-unanswered"
    assert "Traceback" not in web.log.read_text()


def test_a_busy_port_is_one_clear_line(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings.home.mkdir(parents=True)
        web = Web(settings.home, port)
        assert web.process.wait(30) == 2
    [line] = web.log.read_text().splitlines()
    assert f"127.0.0.1:{port}" in line
    assert "Address already in use" in line
    assert "MASKLOOP_PORT" in line


def test_broken_credentials_are_one_clear_line(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    (settings.home / "credentials.json").write_text("{")
    (settings.home / "credentials.json").chmod(0o600)
    web = Web(settings.home, free_port())
    assert web.process.wait(30) == 2
    [line] = web.log.read_text().splitlines()
    assert "Delete it" in line
