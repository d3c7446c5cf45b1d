"""Addresses of heat maps: signed and expiring, so that an annotator's browser needs no log-in to see one."""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from typing import Self
from urllib.parse import parse_qs, urlencode, urlsplit

from maskloop_backend.credentials import load_credentials
from maskloop_learner.settings import Settings

SECONDS = 14 * 86400
"""Life of an address: an annotator's tab may stay open over a holiday."""


class HeatMaps:
    """Signs and checks addresses of heat maps. `url` is what browsers reach the web process under."""

    def __init__(self, key: bytes, url: str) -> None:
        self._key, self._url = key, url

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """With the key of the installation. Raises CredentialsError when that cannot be read."""
        return cls(load_credentials(settings.home).signing_key("maps"), settings.resolved_browser_url)

    def address(self, task_id: int, version: str, *, now: float | None = None) -> str:
        """Of the map of a task (its id in the pool) under a prediction version."""
        expires = int((time.time() if now is None else now) + SECONDS)
        query = {"expires": str(expires), "signature": self._sign(task_id, version, expires)}
        return f"{self._url}/maps/{task_id}/{version}.png?{urlencode(query)}"

    def is_right(self, task_id: int, version: str, query: Mapping[str, str], *, now: float | None = None) -> bool:
        """Whether an address was signed here, for just this map, and has not expired."""
        text = query.get("expires", "")
        if not re.fullmatch(r"[0-9]{1,12}", text):
            return False
        signed = self._sign(task_id, version, int(text))
        right = hmac.compare_digest(query.get("signature", "").encode(), signed.encode())
        return right and int(text) > (time.time() if now is None else now)

    def is_fresh(self, found: object, task_id: int, version: str, *, now: float | None = None) -> bool:
        """Whether what stands in a task is a list of the address for this map, good for half of its life at least."""
        address = found[0] if isinstance(found, list) and len(found) == 1 else None
        if not isinstance(address, str) or not address.startswith(f"{self._url}/maps/{task_id}/{version}.png?"):
            return False
        moment = (time.time() if now is None else now) + SECONDS / 2
        query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        return self.is_right(task_id, version, query, now=moment)

    def _sign(self, task_id: int, version: str, expires: int) -> str:
        text = f"{task_id}\n{version}\n{expires}"
        digest = hmac.digest(self._key, text.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest[:18]).decode()
