"""What went wrong between Label Studio and us, and what to do about it."""

import json
from typing import Any

SSRF_FIX = (
    "Label Studio bans loopback and private addresses by default. Set USE_DEFAULT_BANNED_SUBNETS=false and "
    "USER_ADDITIONAL_BANNED_SUBNETS=169.254.0.0/16 in Label Studio's environment (metadata addresses stay banned), "
    "restart Label Studio, and run `maskloop connect` again."
)
PAT_FIX = (
    "Make a personal access token in Label Studio (user menu > Account & Settings > Personal Access Token) "
    "and run `maskloop connect --token` with it."
)
LEGACY_FIX = (
    PAT_FIX + " A legacy token works only where legacy tokens are switched on "
    "(Organization > API Tokens Settings, or LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true before the first start)."
)
SAID_LIMIT = 500


class LabelStudioError(RuntimeError):
    """A call to Label Studio failed.

    `url` is the address called, `status` the HTTP status (0: no answer), `said` Label Studio's own words,
    `fix` what to do.
    """

    def __init__(self, url: str, status: int, said: str, fix: str) -> None:
        answer = f"HTTP {status}: {said}" if status else said
        super().__init__(f"Label Studio at {url}: {answer}" + (f" {fix}" if fix else ""))
        self.url, self.status, self.said, self.fix = url, status, said, fix

    @property
    def banned_address(self) -> bool:
        """True when Label Studio refused an address for its list of banned networks."""
        return self.status == 403 and ("reserved network" in self.said or "(block:" in self.said)


def refusal(url: str, status: int, body: str, *, personal: bool) -> LabelStudioError:
    """The error of an answer with a status of 300 or more. `personal`: a personal access token was used."""
    said = words(body)
    error = LabelStudioError(url, status, said, "")
    if error.banned_address:
        fix = SSRF_FIX
    else:
        fix = {
            401: PAT_FIX if personal else LEGACY_FIX,
            403: "Use the token of a user who may change this project.",
            404: "Check the address and the project's number.",
            413: "Raise the limit on the size of a request in the proxy before Label Studio.",
        }.get(status, "See Label Studio's log." if status >= 500 else "")
    if 300 <= status < 400:
        said, fix = f"redirects to {body}", "Use the address it redirects to."
    return LabelStudioError(url, status, said, fix)


def words(body: str) -> str:
    """The readable part of an error body, at most 500 characters."""
    try:
        data = json.loads(body)
    except ValueError:
        page = "<html" in body.lower()
        return "an HTML page, not an answer of the API" if page else " ".join(body.split())[:SAID_LIMIT]
    if not isinstance(data, dict):
        return str(data)[:SAID_LIMIT]
    details = data.get("validation_errors")
    parts = _flat(details) if details else _flat(data.get("detail", data))
    return " ".join("; ".join(parts).split())[:SAID_LIMIT]


def _flat(value: Any, name: str = "") -> list[str]:
    if isinstance(value, dict):
        return [part for key, inner in value.items() for part in _flat(inner, "" if key == "non_field_errors" else key)]
    if isinstance(value, list):
        return [part for inner in value for part in _flat(inner, name)]
    return [f"{name}: {value}" if name else str(value)]
