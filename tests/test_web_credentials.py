"""The generated user name and password: made once, kept private, compared without hints."""

import json
import logging
import os
import stat
import subprocess
import sys
import time
from base64 import b64encode
from pathlib import Path

import pytest

from maskloop_backend.credentials import Credentials, CredentialsError, load_credentials

ROOT = Path(__file__).resolve().parents[1]


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


def test_made_once_for_this_user_only_and_read_again(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    first = load_credentials(home)
    assert load_credentials(home) == first
    assert stat.S_IMODE((home / "credentials.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert len(first.password) >= 40
    assert first.password not in repr(first)
    assert os.listdir(home) == ["credentials.json"]
    assert load_credentials(tmp_path / "other").password != first.password


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    home = tmp_path / "home"
    code = (
        "import sys, time, pathlib; from maskloop_backend.credentials import load_credentials;"
        "time.sleep(max(0, float(sys.argv[2]) - time.time()));"
        "print(load_credentials(pathlib.Path(sys.argv[1])).password)"
    )

    start = str(time.time() + 1.0)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(home), start],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT / "backend")},
        )
        for _ in range(8)
    ]
    passwords = {process.communicate(timeout=30)[0].strip() for process in processes}
    assert passwords == {load_credentials(home).password}
    assert os.listdir(home) == ["credentials.json"]


def test_a_file_others_may_read_is_repaired_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "credentials.json"
    expected = load_credentials(tmp_path)
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert load_credentials(tmp_path) == expected
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "0644" in caplog.text
    assert "maskloop connect" in caplog.text
    assert expected.password not in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '"x"',
        '{"username": "a"}',
        '{"username": "a", "password": ""}',
        '{"username": 1, "password": "b"}',
    ],
)
def test_a_malformed_file_is_named_with_the_fix(tmp_path: Path, content: str) -> None:
    (tmp_path / "credentials.json").write_text(content)
    with pytest.raises(CredentialsError, match=r"credentials\.json.*Delete it"):
        load_credentials(tmp_path)


def test_a_home_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(CredentialsError, match="home"):
        load_credentials(tmp_path / "home")


def test_a_colon_in_the_username_is_refused(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text(json.dumps({"username": "a:b", "password": "c"}))
    with pytest.raises(CredentialsError, match="colon"):
        load_credentials(tmp_path)


def test_only_the_right_header_is_accepted() -> None:
    credentials = Credentials("maskloop", "pässword:with:colons")
    assert credentials.accepts(credentials.header)
    assert credentials.accepts(credentials.header.replace("Basic", "basic"))
    wrong = [None, "", "Basic", "Basic ", "Basic !!!", "Basic ä", "Bearer x", basic(""), basic(":"), basic("maskloop:")]
    wrong += [basic("maskloop:pässword"), basic("other:pässword:with:colons"), credentials.header[:-4]]
    wrong += [credentials.header.replace("Basic", "Bearer"), basic("maskloop:pässword:with:colons ")]
    assert [header for header in wrong if credentials.accepts(header)] == []
