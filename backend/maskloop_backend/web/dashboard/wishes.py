"""What of the images is asked for: order, filters, and the place from which on."""

import math
from dataclasses import dataclass
from typing import Literal, Self, get_args
from urllib.parse import urlencode

from maskloop_backend.web.dashboard.boards import DEFAULT, SCORES
from maskloop_backend.web.errors import WebError
from maskloop_learner.pool.serving import SERVING

State = Literal["queue", "labelled", "skipped", "waiting", "failed", "all"]
STATES: dict[State, str] = {
    "queue": "to be labelled",
    "labelled": "labelled",
    "skipped": "skipped",
    "waiting": "not predicted yet",
    "failed": "failed",
    "all": "all",
}
PER_PAGE, MOST = 48, 500
LONGEST = 200


@dataclass(frozen=True)
class Cursor:
    """The last row that was shown: its score (None where it has none), its task, how many came before, and its place
    in the open batch where the rows before are that batch's."""

    value: float | None
    ls_id: int
    task_id: int
    shown: int
    place: int | None = None

    def text(self) -> str:
        """As it stands in an address; reading it gives the same number to the last bit."""
        place = "" if self.place is None else f":{self.place}"
        return f"{'' if self.value is None else repr(self.value)}:{self.ls_id}:{self.task_id}:{self.shown}{place}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises WebError 400 for what is no cursor."""
        parts = text.split(":")
        try:
            value = float(parts[0]) if parts[0] else None
            ls_id, task_id, shown, *place = (int(part) for part in parts[1:])
        except ValueError as error:
            raise _wrong("after", text, "the `next` of the page before") from error
        if (
            (value is not None and not math.isfinite(value))
            or not all(0 <= n < 1 << 62 for n in (ls_id, task_id, *place))
            or len(place) > 1
        ):
            raise _wrong("after", text, "the `next` of the page before")
        return cls(value, ls_id, task_id, max(0, shown), *place)


@dataclass(frozen=True)
class Wish:
    """A part of a project's images."""

    by: str = SERVING
    """One of SCORES, or the order in which Label Studio serves: the open batch first, then DEFAULT."""
    state: State = "queue"
    label: str = ""
    """Only images in which this label is predicted."""
    batch: int | None = None
    """Number of a batch."""
    group: str = ""
    """Beginning of a group's key."""
    after: Cursor | None = None
    limit: int = PER_PAGE

    @classmethod
    def read(cls, query: "dict[str, str]", *, state: State = "queue") -> Self:
        """Out of an address; `state` where it names none. Raises WebError 400, naming what is wrong."""
        by = query.get("by") or SERVING
        if by not in (SERVING, *SCORES):
            raise _wrong("by", by, "one of " + ", ".join((SERVING, *SCORES)))
        wanted = query.get("state") or state
        if wanted not in get_args(State):
            raise _wrong("state", wanted, "one of " + ", ".join(STATES))
        found: State = next(name for name in STATES if name == wanted)
        limit = _number("limit", query.get("limit"), most=MOST) or PER_PAGE
        after = Cursor.read(query["after"]) if query.get("after") else None
        label, group = query.get("label", "")[:LONGEST], query.get("group", "").strip()[:LONGEST]
        return cls(by, found, label, _number("batch", query.get("batch")), group, after, limit)

    @property
    def score(self) -> str:
        """The score that rows stand by, outside the open batch."""
        return DEFAULT if self.by == SERVING else self.by

    @property
    def batch_first(self) -> bool:
        """Whether the open batch comes before all others."""
        return self.by == SERVING and self.state == "queue"

    @property
    def is_plain(self) -> bool:
        """Whether it is the whole ranking, so that places in it are ranks."""
        return self.state == "queue" and not (self.label or self.group or self.batch)

    def query(self, project: int, **changes: object) -> str:
        """The same as an address carries it; empty values are left out."""
        fields: dict[str, object] = {
            "project": project,
            "by": self.by if self.by != SERVING else "",
            "state": self.state if self.state != "queue" else "",
            "label": self.label,
            "batch": self.batch or "",
            "group": self.group,
        }
        return urlencode({name: value for name, value in (fields | changes).items() if value not in ("", None)})


def _number(name: str, text: str | None, *, most: int = (1 << 31) - 1) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 0 < int(text) <= most):
        raise _wrong(name, text, f"a number from 1 to {most}")
    return int(text)


def _wrong(name: str, value: str, wanted: str) -> WebError:
    return WebError(400, f"`{name}` is not what it must be", value, fix=f"Give {wanted}.")
