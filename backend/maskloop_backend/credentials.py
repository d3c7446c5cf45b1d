"""Who may use the web process: the password made on first start, a read-only one, and the key that it signs with."""

import contextlib
import fcntl
import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
import tempfile
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

FILE = "credentials.json"
READER = "reader"
"""User name of the read-only user."""


class CredentialsError(RuntimeError):
    """The credentials file cannot be read, written or understood; the message says what to do."""


@dataclass(frozen=True)
class Credentials:
    """A user name and a password; the secrets stay out of `repr`."""

    username: str
    password: str = field(repr=False)
    key: str = field(default="", repr=False)
    """What sessions and addresses are signed with; "": the password."""
    reader: str | None = field(default=None, repr=False)
    """Password of the user `READER`, who sees all and changes nothing; None: there is none."""

    def signing_key(self, purpose: str) -> bytes:
        """A key of its own for each purpose, so that what is signed for one is worth nothing for another."""
        return hmac.digest((self.key or self.password).encode(), f"maskloop {purpose}".encode(), hashlib.sha256)

    @property
    def header(self) -> str:
        """The value of an `Authorization` header with these credentials."""
        return "Basic " + b64encode(f"{self.username}:{self.password}".encode()).decode()

    def accepts(self, header: str | None) -> bool:
        """True when an `Authorization` header carries these credentials; takes the same time for every guess."""
        return hmac.compare_digest(decode_basic(header), f"{self.username}:{self.password}".encode())

    def accepts_reader(self, header: str | None) -> bool:
        """True when an `Authorization` header carries the read-only user's credentials."""
        given = decode_basic(header)
        return self.reader is not None and hmac.compare_digest(given, f"{READER}:{self.reader}".encode())


def decode_basic(header: str | None) -> bytes:
    """`user:password` out of an `Authorization` header; nothing where it is no HTTP Basic."""
    scheme, _, encoded = (header or "").partition(" ")
    try:
        return b64decode(encoded.strip(), validate=True) if scheme.lower() == "basic" else b""
    except (Base64Error, ValueError):  # not Base64, or not even ASCII
        return b""


def load_credentials(home: Path) -> Credentials:
    """Read home/credentials.json (mode 0600), making it, or the key in it, where it is missing.

    Processes that start at once agree on one password and key. A file that others may read is repaired and logged.
    Raises CredentialsError when the file is unreadable, not writable or malformed.
    """
    path = home / FILE
    with _explained(path):
        if not path.exists():
            _create(home, path)
        _repair_mode(path)
        found = _parse(path)
        if not found.key:
            # A folder that cannot be written has its password only, as a mounted secret has.
            with contextlib.suppress(OSError):
                found = _change(path, key=lambda before: before or secrets.token_urlsafe(32))
    return found


def add_reader(home: Path) -> str:
    """Give the read-only user a new password, and return it; sessions with the one before end."""
    load_credentials(home)
    password = secrets.token_urlsafe(18)
    with _explained(home / FILE):
        _change(home / FILE, reader=lambda _: password)
    return password


def remove_reader(home: Path) -> bool:
    """Take the read-only user away; return whether there was one."""
    was = load_credentials(home).reader is not None
    with _explained(home / FILE):
        _change(home / FILE, reader=lambda _: None)
    return was


def _parse(path: Path) -> Credentials:
    content = path.read_text(encoding="utf-8")
    try:
        data = json.loads(content)
        username, password = data["username"], data["password"]
        key, reader = data.get("key", ""), data.get("reader")
    except (ValueError, KeyError, TypeError, AttributeError):
        username = password = key = reader = None
    texts = isinstance(username, str) and isinstance(password, str) and isinstance(key, str)
    if not (texts and isinstance(reader, str | None) and username and password and reader != ""):
        raise CredentialsError(
            f"credentials: {path} is not a JSON object with a non-empty `username` and `password`. "
            f"Delete it: the next start makes a new one, then run `maskloop connect` again."
        )
    if ":" in username:
        raise CredentialsError(f"credentials: the username in {path} contains a colon. HTTP Basic forbids it.")
    return Credentials(username, password, key, reader)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CredentialsError(
            f"credentials: {path}: {error.strerror or error}. "
            f"Make the folder and the file readable and writable for this user."
        ) from error


def _change(path: Path, **fields: Callable[[str | None], str | None]) -> Credentials:
    """Work some fields out anew from what they are; of several processes one at a time does."""
    # The folder is locked, not the file, which is another one afterwards.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        data = json.loads(path.read_text(encoding="utf-8"))
        data |= {name: value(data.get(name)) for name, value in fields.items()}
        os.replace(_write(path.parent, {name: value for name, value in data.items() if value is not None}), path)
    finally:
        os.close(folder)
    return _parse(path)


def _write(home: Path, data: dict[str, Any]) -> str:
    """A file of its own with these fields, for this user only; returns its path."""
    descriptor, temporary = tempfile.mkstemp(dir=home, prefix=f".{FILE}.")  # mkstemp makes it 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(data, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _create(home: Path, path: Path) -> None:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = {"username": "maskloop", "password": secrets.token_urlsafe(32), "key": secrets.token_urlsafe(32)}
    temporary = _write(home, made)
    try:
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
