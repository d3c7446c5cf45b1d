"""Tokens of Label Studio: kept safely per address, and bad ones named before they are used."""

import base64
import json
import stat
from pathlib import Path

import pytest

from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.labelstudio.errors import LabelStudioError, refusal
from maskloop_backend.labelstudio.tokens import TokenError, check_token, load_token, normal_url, save_token

LEGACY = "0123456789abcdef0123456789abcdef01234567"


def jwt(signature: bool = True, **claims: object) -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "x"}, claims)
    ]
    return ".".join([*parts, "c2ln"] if signature else parts)


def test_tokens_are_kept_per_address_and_readable_by_this_user_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert load_token(home, "http://ls:8080") is None
    save_token(home, "HTTP://LS:8080/", LEGACY)
    save_token(home, "https://labels.example.org/studio/", jwt(token_type="refresh"))
    file = home / "labelstudio.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_token(home, "http://ls:8080") == LEGACY
    assert load_token(home, "https://labels.example.org/studio") == jwt(token_type="refresh")
    assert load_token(home, "https://labels.example.org") is None
    file.chmod(0o644)
    load_token(home, "http://ls:8080")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in home.iterdir()] == ["labelstudio.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"http://x": 5}'])
def test_a_broken_token_file_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "labelstudio.json").write_text(content)
    with pytest.raises(TokenError, match="maskloop connect"):
        load_token(tmp_path, "http://ls")


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "empty"),
        ("two words", "blanks"),
        ("tök", "blanks"),
        (jwt(signature=False, token_type="refresh"), "lacks its signature"),
        (jwt(token_type="access"), "short-lived"),
    ],
)
def test_tokens_that_cannot_work_are_named(token: str, reason: str) -> None:
    with pytest.raises(TokenError, match=reason):
        check_token(token)


def test_a_token_is_trimmed() -> None:
    assert check_token(f" {LEGACY}\n") == LEGACY


@pytest.mark.parametrize(
    "url", ["", "ls:8080", "ftp://ls", "http://", "http://u:p@ls", "http://ls/?a=1", "http://ls:x"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(TokenError, match="address"):
        normal_url(url)


def test_nothing_listens(unused_tcp_address: str) -> None:
    with LabelStudio(unused_tcp_address, LEGACY) as client, pytest.raises(LabelStudioError) as error:
        client.whoami()
    assert error.value.status == 0
    assert "no answer" in str(error.value)
    assert "running" in error.value.fix


@pytest.fixture
def unused_tcp_address() -> str:
    """An address of this machine where nothing listens: the port was free a moment ago."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_refusals_carry_label_studios_words_and_the_cure() -> None:
    body = json.dumps(
        {"detail": "Validation error", "validation_errors": {"title": ["Too short."], "non_field_errors": ["No."]}}
    )
    assert refusal("http://ls/api", 400, body, personal=True).said == "title: Too short.; No."
    banned = json.dumps({"detail": "URL resolves to a reserved network address (block: 127.0.0.0/8)"})
    error = refusal("http://ls/api", 403, banned, personal=True)
    assert error.banned_address
    assert "USE_DEFAULT_BANNED_SUBNETS=false" in error.fix
    assert "169.254.0.0/16" in error.fix
    assert "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN" in refusal("http://ls", 401, "{}", personal=False).fix
    assert "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN" not in refusal("http://ls", 401, "{}", personal=True).fix
    assert "HTML page" in refusal("http://ls", 502, "<html>bad gateway</html>", personal=True).said
    assert "https://ls" in refusal("http://ls", 301, "https://ls", personal=True).said
