"""Whether one process is alive, for what watches containers. Quick: it looks at that process alone, see `doctor`."""

from typing import NamedTuple

import httpx

from maskloop_learner.settings import Settings
from maskloop_queue.processes import BEAT_VARIABLE, Beat

TIMEOUT = 5.0
"""Seconds for the web process to answer."""


class Health(NamedTuple):
    """What was found."""

    healthy: bool
    said: str


def check(process: str, settings: Settings) -> Health:
    """Ask `web` for its health; look when another process showed life last."""
    return _web(settings) if process == "web" else _beating(process, settings)


def _web(settings: Settings) -> Health:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "") else settings.host
    host = f"[{host}]" if ":" in host else host
    url = f"http://{host}:{settings.port}/health"
    try:
        answer = httpx.get(url, timeout=TIMEOUT, trust_env=False)
    except httpx.HTTPError as error:
        return Health(False, f"web does not answer at {url}: {error}")
    return Health(answer.status_code == 200, f"web answers at {url} with {answer.status_code}")


def _beating(process: str, settings: Settings) -> Health:
    beat = Beat.of_process()
    if beat.path is None:
        return Health(False, f"set {BEAT_VARIABLE} to one file for {process} and for this check")
    age = beat.age()
    if age is None:
        return Health(False, f"{process} has not shown life yet: {beat.path} is not there")
    said = f"{process} showed life {age:.0f} s ago"
    return Health(age <= settings.hang_timeout, said)
