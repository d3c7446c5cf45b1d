"""Signed, expiring sessions of browsers, and the tokens without which nothing is written from one."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass
from typing import Literal

from maskloop_backend.credentials import READER, Credentials

Role = Literal["lead", "reader"]
COOKIE = "maskloop_session"
LOGIN_COOKIE = "maskloop_login"
SECONDS = 12 * 3600
"""Life of a session; one that is used in its second half is renewed."""
LOGIN_SECONDS = 3600
"""For which a log-in page can be sent."""


@dataclass(frozen=True)
class Who:
    """Who a request is from."""

    username: str
    role: Role
    csrf: str = ""
    """What every write from this session carries; "" for HTTP Basic, which needs none."""
    renew: bool = False
    """Whether its session is past half of its life."""

    @property
    def may_write(self) -> bool:
        """Whether it may change anything."""
        return self.role == "lead"


class Sessions:
    """Makes and reads the values of cookies. A session ends with its time, or with its user's password."""

    def __init__(self, credentials: Credentials) -> None:
        self._session_key = credentials.signing_key("sessions")
        self._csrf_key = credentials.signing_key("writes")
        self._login_key = credentials.signing_key("log-ins")
        self.credentials = credentials

    def begin(self, role: Role, *, now: float | None = None) -> str:
        """The cookie of a new session. Raises ValueError for a reader where there is none."""
        fields = {
            "role": role,
            "until": int((time.time() if now is None else now) + SECONDS),
            "of": self._mark(role),
            "id": secrets.token_urlsafe(12),
        }
        body = base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()
        return f"{body}.{self._sign(self._session_key, body)}"

    def read(self, cookie: str, *, now: float | None = None) -> Who | None:
        """Who a session's cookie stands for; None when it is not ours, has ended, or its password is another now."""
        body, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(self._session_key, body).encode()):
            return None
        try:
            fields = json.loads(base64.urlsafe_b64decode(body))
            role, until, mark, number = fields["role"], fields["until"], fields["of"], fields["id"]
        except (ValueError, KeyError, TypeError, binascii.Error):
            return None
        left = until - (time.time() if now is None else now)
        there = role == "lead" or self.credentials.reader is not None
        if left <= 0 or not there or not hmac.compare_digest(mark, self._mark(role)):
            return None
        username = self.credentials.username if role == "lead" else READER
        return Who(username, role, self._sign(self._csrf_key, number), renew=left < SECONDS / 2)

    def login_token(self, *, now: float | None = None) -> str:
        """What a log-in page carries both as a cookie and in its form, so that no other page can send it."""
        body = f"{secrets.token_urlsafe(12)}.{int((time.time() if now is None else now) + LOGIN_SECONDS)}"
        return f"{body}.{self._sign(self._login_key, body)}"

    def is_login(self, cookie: str, form: str, *, now: float | None = None) -> bool:
        """Whether a form's token is that of the cookie, ours, and in time."""
        body, _, signature = form.rpartition(".")
        ours = hmac.compare_digest(signature.encode(), self._sign(self._login_key, body).encode())
        if not ours or not hmac.compare_digest(cookie.encode(), form.encode()):
            return False
        return int(body.rpartition(".")[2]) > (time.time() if now is None else now)

    def role_of(self, password: str) -> Role | None:
        """Whose password it is; takes the same time for every guess."""
        given = password.encode()
        lead = hmac.compare_digest(given, self.credentials.password.encode())
        reader = hmac.compare_digest(given, (self.credentials.reader or "").encode())
        if lead:
            return "lead"
        return "reader" if reader and self.credentials.reader is not None else None

    def _mark(self, role: Role) -> str:
        password = self.credentials.password if role == "lead" else self.credentials.reader
        if password is None:
            raise ValueError("there is no read-only user; `maskloop dashboard-user --read-only` makes one")
        return self._sign(self._session_key, f"password of {role} {password}")[:16]

    def _sign(self, key: bytes, text: str) -> str:
        return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode().rstrip("=")
