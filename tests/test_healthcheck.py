"""Whether a process is alive, as containers ask; and settings that stand in files, as containers get them."""

import os
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from command_fixture import Command
from pydantic import ValidationError

from maskloop_backend.healthcheck import check
from maskloop_learner.settings import Settings, SettingsError, get_settings
from maskloop_queue.processes import BEAT_VARIABLE


class Answering(BaseHTTPRequestHandler):
    """Says 200 to /health and 404 to all else."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_web_is_alive_when_it_answers(tmp_path: Path) -> None:
    """On whatever address it listens."""
    server = HTTPServer(("127.0.0.1", 0), Answering)
    Thread(target=server.serve_forever, daemon=True).start()
    settings = Settings(home=tmp_path, host="0.0.0.0", port=server.server_address[1])
    assert check("web", settings).healthy
    server.shutdown()
    server.server_close()
    found = check("web", settings)
    assert not found.healthy
    assert f"127.0.0.1:{settings.port}" in found.said


def test_the_others_are_alive_while_they_touch_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs does not."""
    settings, beat = Settings(home=tmp_path, hang_timeout=30), tmp_path / "beat"
    monkeypatch.delenv(BEAT_VARIABLE, raising=False)
    assert check("sync", settings) == (False, "set MASKLOOP_BEAT to one file for sync and for this check")
    monkeypatch.setenv(BEAT_VARIABLE, str(beat))
    assert not check("sync", settings).healthy
    beat.touch()
    assert check("sync", settings).healthy
    os.utime(beat, (time.time() - 31,) * 2)
    assert not check("sync", settings).healthy


def test_the_command_says_it_by_its_exit_code(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 or 1, with a line for whoever looks."""
    monkeypatch.setenv(BEAT_VARIABLE, str(tmp_path / "beat"))
    assert command("healthcheck", "gpu")[0] == 1
    (tmp_path / "beat").touch()
    code, out, _ = command("healthcheck", "gpu")
    assert code == 0
    assert out.startswith("gpu showed life 0 s ago")


def test_a_setting_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any of them; blanks around it do not count."""
    (tmp_path / "url").write_text(" postgresql://maskloop:secret@host/pool\n")
    (tmp_path / "samples").write_text("7\n")
    monkeypatch.setenv("MASKLOOP_DATABASE_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("MASKLOOP_SAMPLES_FILE", str(tmp_path / "samples"))
    settings = Settings(home=tmp_path)
    assert settings.resolved_database_url == "postgresql://maskloop:secret@host/pool"
    assert settings.samples == 7
    assert "secret" not in repr(settings)


def test_a_file_that_cannot_be_used_is_named(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, empty, no text, or one besides its variable: one line, exit code 2."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name, said in (("missing", "cannot be read: No such file"), ("empty", "empty"), ("bytes", "it is no text")):
        monkeypatch.setenv("MASKLOOP_REDIS_URL_FILE", str(tmp_path / name))
        with pytest.raises(SettingsError, match=rf"MASKLOOP_REDIS_URL_FILE names .*{name}.*{said}"):
            Settings(home=tmp_path)
    monkeypatch.setenv("MASKLOOP_REDIS_URL", "redis://:secret@host/0")
    get_settings.cache_clear()
    code, _, err = command("status")
    assert (code, err) == (
        2,
        "maskloop: MASKLOOP_REDIS_URL and MASKLOOP_REDIS_URL_FILE are both set; keep one of them\n",
    )


def test_options_of_the_store_are_an_object(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else stands there, which may be a key, is not repeated."""
    assert Settings(home=tmp_path, store_options='{"endpoint": "http://minio:9000"}').resolved_store_options == {
        "endpoint": "http://minio:9000"
    }
    with pytest.raises(ValidationError, match="must be a JSON object"):
        Settings(home=tmp_path, store_options="[1]")
    monkeypatch.setenv("MASKLOOP_STORE_OPTIONS", "a-secret-key")
    get_settings.cache_clear()
    code, _, err = command("status")
    assert code == 2
    assert err.startswith("maskloop: setting MASKLOOP_STORE_OPTIONS: Value error, not JSON")
    assert "a-secret-key" not in err
