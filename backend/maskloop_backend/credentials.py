"""The user name and password that the web process asks for, generated on first start."""

import contextlib
import hmac
import json
import logging
import os
import secrets
import stat
import tempfile
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)

FILE = "credentials.json"


class CredentialsError(RuntimeError):
    """The credentials file cannot be read, written or understood; the message says what to do."""


@dataclass(frozen=True)
class Credentials:
    """A user name and a password; the password stays out of `repr`."""

    username: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """The value of an `Authorization` header with these credentials."""
        return "Basic " + b64encode(f"{self.username}:{self.password}".encode()).decode()

    def accepts(self, header: str | None) -> bool:
        """True when an `Authorization` header carries these credentials; takes the same time for every guess."""
        scheme, _, encoded = (header or "").partition(" ")
        try:
            given = b64decode(encoded.strip(), validate=True) if scheme.lower() == "basic" else b""
        except Base64Error:
            given = b""
        except ValueError:  # non-ASCII characters
            given = b""
        return hmac.compare_digest(given, f"{self.username}:{self.password}".encode())


def load_credentials(home: Path) -> Credentials:
    """Read home/credentials.json (mode 0600), making it first where it is missing.

    Processes that start at once agree on one password. A file that others may read is repaired and logged.
    Raises CredentialsError when the file is unreadable, not writable or malformed.
    """
    path = home / FILE
    try:
        if not path.exists():
            _create(home, path)
        _repair_mode(path)
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CredentialsError(
            f"credentials: {path}: {error.strerror or error}. "
            f"Make the folder and the file readable and writable for this user."
        ) from error
    try:
        data = json.loads(content)
        username, password = data["username"], data["password"]
    except (ValueError, KeyError, TypeError):
        username = password = None
    if not (isinstance(username, str) and isinstance(password, str) and username and password):
        raise CredentialsError(
            f"credentials: {path} is not a JSON object with a non-empty `username` and `password`. "
            f"Delete it: the next start makes a new one, then run `maskloop connect` again."
        )
    if ":" in username:
        raise CredentialsError(f"credentials: the username in {path} contains a colon. HTTP Basic forbids it.")
    return Credentials(username, password)


def _create(home: Path, path: Path) -> None:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = json.dumps({"username": "maskloop", "password": secrets.token_urlsafe(32)}, indent=1) + "\n"
    descriptor, temporary = tempfile.mkstemp(dir=home, prefix=f".{FILE}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A hard link appears whole or not at all, and only for the first of several processes.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)


def _repair_mode(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        path.chmod(0o600)
        logger.warning(
            "%s had mode %04o, so other users of this machine could read the password; it is 0600 now. "
            "If they may have: delete the file, restart, and run `maskloop connect` again.",
            path,
            mode,
        )
