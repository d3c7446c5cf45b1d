"""What was found when a project was looked at: fine, changed, or a problem and its cure."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from maskloop_backend.labelstudio.controls import Interface

Level = Literal["ok", "changed", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of a report. `fix` says what to do; it may be set with level ok, as advice."""

    level: Level
    what: str
    fix: str = ""

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Connection:
    """The outcome for a project: what was found, and what the pool keeps of it (when it can be served)."""

    findings: list[Finding]
    ls_url: str = ""
    ls_id: int = 0
    title: str = ""
    label_config: str = ""
    interface: Interface | None = None

    @property
    def healthy(self) -> bool:
        """No problem was found."""
        return not has_problem(self.findings)


def has_problem(findings: Iterable[Finding]) -> bool:
    """True when one of them is a problem."""
    return any(finding.level == "problem" for finding in findings)
