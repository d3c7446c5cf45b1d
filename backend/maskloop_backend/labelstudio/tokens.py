"""Label Studio's access tokens: their kinds, and the file in the home folder that keeps them."""

import base64
import binascii
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

FILE = "labelstudio.json"


class TokenError(RuntimeError):
    """The token file cannot be read or written, or an address or token is not one; the message says what to do."""


def normal_url(url: str) -> str:
    """Label Studio's base address without a trailing slash, scheme and host in lower case; a sub-path is kept.

    Raises TokenError for anything but http(s), and for addresses with a user, a query or a fragment.
    """
    try:
        parts = urlsplit(url.strip())
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise TokenError(f"Label Studio's address {url!r} is not an address ({error}).") from error
    host = parts.hostname or ""
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise TokenError(
            f"Label Studio's address {url!r} must look like https://labels.example.org or http://host:8080."
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise TokenError(
            "Label Studio's address must not carry a user name, a query or a fragment; give the base address."
        )
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme.lower()}://{host}{port}{parts.path.rstrip('/')}"


def jwt_claims(token: str) -> dict[str, Any]:
    """The claims of a JWT without checking its signature; empty when the token is not a JWT."""
    parts = token.split(".")
    if len(parts) < 2:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def is_personal(token: str) -> bool:
    """True for a personal access token (a JWT), False for a legacy token."""
    return bool(jwt_claims(token))


def check_token(token: str) -> str:
    """The token without blanks around it. Raises TokenError for one that cannot work, and says why."""
    token = token.strip()
    if (
        not token
        or any(character.isspace() or not character.isprintable() for character in token)
        or not token.isascii()
    ):
        raise TokenError(
            "The token is empty or has blanks in it. Copy it again from Label Studio's Account & Settings."
        )
    if token.count(".") == 1 and is_personal(token):
        raise TokenError(
            "This personal access token lacks its signature (Label Studio shows it whole only when it is made). "
            "Revoke it in Account & Settings and make a new one."
        )
    if jwt_claims(token).get("token_type") == "access":
        raise TokenError(
            "This is a short-lived access token, gone in five minutes. Use the personal access token itself."
        )
    return token


def load_token(home: Path, url: str) -> str | None:
    """The token kept for a Label Studio, or None. Raises TokenError when the file is unreadable or malformed."""
    return _read(home / FILE).get(normal_url(url))


def save_token(home: Path, url: str, token: str) -> None:
    """Keep the token for a Label Studio in home/labelstudio.json, readable by this user only. Raises TokenError."""
    path = home / FILE
    tokens = _read(path) | {normal_url(url): check_token(token)}
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=home, prefix=f".{FILE}.")  # mkstemp makes it 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(tokens, indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise TokenError(
            f"tokens: {path}: {error.strerror or error}. Make the folder writable for this user."
        ) from error


def _read(path: Path) -> dict[str, str]:
    try:
        if os.name == "posix" and path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise TokenError(f"tokens: {path}: {error.strerror or error}. Make it readable for this user.") from error
    except ValueError as error:
        raise TokenError(f"tokens: {path} is not JSON. Delete it and run `maskloop connect` again.") from error
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise TokenError(
            f"tokens: {path} is not an object of addresses and tokens. Delete it, run `maskloop connect` again."
        )
    return data
