"""HTTP to Label Studio: authorization, time-outs, bounded retries, and errors that say what to do."""

import logging
import random
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import httpx

from maskloop_backend.labelstudio.errors import PAT_FIX, LabelStudioError, refusal
from maskloop_backend.labelstudio.tokens import check_token, is_personal, jwt_claims, normal_url

logger = logging.getLogger(__name__)

ATTEMPTS = 4
BACKOFF = 0.4
LONGEST_WAIT = 30.0
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
BULK_TIMEOUT = 600.0
RENEW_BEFORE = 60.0
"""Seconds before its end at which an access token is replaced; Label Studio gives it 300 s."""
# Label Studio on SQLite answers 500 when its database is locked: worth another try where that is harmless.
PASSING = {429, 500, 502, 503, 504}


class Transport:
    """One Label Studio and one token; may be used from several threads.

    Calls raise LabelStudioError. Idempotent ones are tried up to four times; others again only when Label Studio
    surely did not begin them.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = normal_url(url)
        self._token = check_token(token)
        self.personal = is_personal(self._token)
        self._access, self._renew_at = "", 0.0
        self._lock = threading.Lock()
        self._http = httpx.Client(
            base_url=self.url + "/",
            timeout=httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT),
            headers={"User-Agent": "maskloop", "Accept": "application/json"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def token_kind(self) -> str:
        """ "personal access token" or "legacy token"."""
        return "personal access token" if self.personal else "legacy token"

    def fetch_headers(self) -> dict[str, str]:
        """The Authorization header for this Label Studio's own origin, valid for at least a minute."""
        if not self.personal:
            return {"Authorization": f"Token {self._token}"}
        with self._lock:
            if time.monotonic() >= self._renew_at:
                self._renew()
            return {"Authorization": f"Bearer {self._access}"}

    def _renew(self) -> None:
        answer = self._send("POST", "api/token/refresh/", {}, idempotent=True, json={"refresh": self._token})
        if answer.status_code == 404:
            raise self._not_label_studio(answer, "knows no personal access tokens")
        if answer.status_code >= 300:
            raise refusal(f"{self.url}/api/token/refresh/", answer.status_code, answer.text, personal=True)
        access = self._json(answer).get("access")
        claims = jwt_claims(access) if isinstance(access, str) else {}
        if not isinstance(access, str) or not claims:
            raise LabelStudioError(self.url, answer.status_code, "gave no access token for the personal one", PAT_FIX)
        # Its life is counted on our own clock from now on: the two machines' clocks may differ.
        life = float(claims.get("exp", 0)) - float(claims.get("iat", 0))
        self._access, self._renew_at = access, time.monotonic() + max(life - RENEW_BEFORE, life / 2, 1.0)

    def call(self, method: str, path: str, *, gone_is_fine: bool = False, **arguments: Any) -> httpx.Response:
        """One request, relative to the base address; the answer has a status below 300.

        `gone_is_fine`: a 404 is returned too. `idempotent` (default: all but POST), `timeout` in seconds,
        `params`, `json` and `files` are as for httpx.
        """
        idempotent = bool(arguments.pop("idempotent", method != "POST"))
        answer = self._send(method, path, self.fetch_headers(), idempotent=idempotent, **arguments)
        if answer.status_code == 401 and self.personal:
            with self._lock:
                self._renew_at = 0.0  # Label Studio was restarted with another key, or slept
            answer = self._send(method, path, self.fetch_headers(), idempotent=idempotent, **arguments)
        if answer.status_code >= 300 and not (gone_is_fine and answer.status_code == 404):
            body = answer.headers.get("location", "") if answer.is_redirect else answer.text
            raise refusal(f"{self.url}/{path}", answer.status_code, body, personal=self.personal)
        return answer

    def json(self, method: str, path: str, **arguments: Any) -> Any:
        """The decoded JSON of `call`; LabelStudioError when the answer is not JSON."""
        return self._json(self.call(method, path, **arguments))

    def _json(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError as error:
            raise self._not_label_studio(answer, "answered something that is not JSON") from error

    def _not_label_studio(self, answer: httpx.Response, said: str) -> LabelStudioError:
        fix = "Is this Label Studio's base address, as in the browser before /projects?"
        return LabelStudioError(self.url, answer.status_code, f"{said}; this does not look like Label Studio.", fix)

    def _send(
        self, method: str, path: str, headers: dict[str, str], *, idempotent: bool, **arguments: Any
    ) -> httpx.Response:
        if (seconds := arguments.pop("timeout", None)) is not None:
            arguments["timeout"] = httpx.Timeout(seconds, connect=CONNECT_TIMEOUT)
        for attempt in range(1, ATTEMPTS + 1):
            wait = BACKOFF * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
            try:
                answer = self._http.request(method, path, headers=headers, **arguments)
            except httpx.TransportError as error:
                never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if attempt == ATTEMPTS or not (idempotent or never_sent):
                    raise self._silent(path, error) from error
                reason = str(error) or type(error).__name__
            else:
                status = answer.status_code
                if attempt == ATTEMPTS or not (status == 429 or (status in PASSING and idempotent)):
                    return answer
                wait = max(wait, _retry_after(answer))
                reason = f"HTTP {status}"
            logger.info("Label Studio: %s %s: %s; again in %.1f s", method, path, reason, wait)
            time.sleep(min(wait, LONGEST_WAIT))
        raise AssertionError("the last attempt returns or raises")

    def _silent(self, path: str, error: httpx.TransportError) -> LabelStudioError:
        said = f"no answer ({str(error) or type(error).__name__})."
        if isinstance(error, httpx.TimeoutException):
            fix = "It is there but slow, or a firewall drops the packets: see its log and its load."
        elif "CERTIFICATE" in str(error):
            fix = "Point SSL_CERT_FILE at the certificate of your authority."
        else:
            fix = "Is Label Studio running, and is the address right?"
        return LabelStudioError(f"{self.url}/{path}", 0, said, fix)


def server_time(answer: httpx.Response) -> datetime:
    """The moment of an answer on Label Studio's clock, in whole seconds; ours when it does not say."""
    try:
        return parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return datetime.now(UTC).replace(microsecond=0)


def _retry_after(answer: httpx.Response) -> float:
    value = answer.headers.get("retry-after", "")
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
