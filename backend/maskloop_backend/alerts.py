"""Alerts on their way out: posted to an address, or given to a command. Neither address nor arguments are logged."""

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

from maskloop_learner.settings import Settings

TIMEOUT = 10.0
"""Seconds for one alert: a target that does not answer must not hold up the others."""


class AlertError(RuntimeError):
    """A target did not take an alert; the message names it without its secrets."""


@dataclass(frozen=True)
class Alert:
    """One message to the people who look after an installation."""

    text: str
    kind: str
    subject: str = ""
    project: int | None = None
    """Number in Label Studio."""
    at: str = ""
    data: dict[str, Any] = field(default_factory=dict)


class Target(Protocol):
    """Where alerts go."""

    name: str
    """Of its cursor in the pool, and in messages: holds no secret."""

    def send(self, alert: Alert) -> None:
        """Deliver one alert. Raises AlertError."""
        ...


class Webhook:
    """Posts JSON with a `text`, which chat systems show, and the same in fields for programmes."""

    def __init__(self, url: str) -> None:
        self.name = f"url {urlsplit(url).hostname}"
        self._url = url

    def send(self, alert: Alert) -> None:
        """See Target."""
        try:
            reply = httpx.post(self._url, json=asdict(alert), timeout=TIMEOUT, follow_redirects=False)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AlertError(f"{self.name} cannot be reached: {type(error).__name__}") from error
        if not reply.is_success:
            raise AlertError(f"{self.name} answered with status {reply.status_code}")


class Command:
    """Runs a command, without a shell, with the text on its standard input."""

    def __init__(self, words: Sequence[str]) -> None:
        self.name = f"command {words[0].rsplit('/', 1)[-1]}"
        self._words = list(words)

    def send(self, alert: Alert) -> None:
        """See Target."""
        try:
            done = subprocess.run(
                self._words, input=f"{alert.text}\n", capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            why = error.strerror if isinstance(error, OSError) else f"not done after {TIMEOUT:g} s"
            raise AlertError(f"{self.name} failed: {why}") from error
        if done.returncode != 0:
            raise AlertError(f"{self.name} ended with status {done.returncode}: {done.stderr.strip()[-200:]}")


def find_targets(settings: Settings) -> list[Target]:
    """The targets that the settings name. Raises AlertError for a setting that names none."""
    found: list[Target] = []
    if settings.alert_url:
        parts = urlsplit(settings.alert_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise AlertError("MASKLOOP_ALERT_URL must be an address such as https://chat.example.org/hooks/..")
        found.append(Webhook(settings.alert_url))
    if settings.alert_command:
        try:
            words = shlex.split(settings.alert_command)
        except ValueError as error:
            raise AlertError(f"MASKLOOP_ALERT_COMMAND cannot be split into words: {error}") from error
        if not words:
            raise AlertError("MASKLOOP_ALERT_COMMAND is empty; name a command such as `mail -s Maskloop ops@..`")
        found.append(Command(words))
    return found
