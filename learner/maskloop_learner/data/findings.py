"""What is wrong with a data set, one finding a matter."""

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["problem", "note"]

KINDS: dict[str, Level] = {
    "unreadable-sheet": "problem",
    "unknown-sheet": "note",
    "empty-sheet": "note",
    "no-name": "problem",
    "no-image": "problem",
    "no-mask": "problem",
    "empty-prompt": "problem",
    "contradiction": "problem",
    "repeated": "note",
    "other-images": "problem",
    "not-nested": "note",
    "same-name": "problem",
    "same-image": "problem",
    "unreadable": "problem",
    "size": "problem",
    "scaled": "note",
    "location": "note",
}
"""Every kind with its level: a problem changes or spoils figures, a note is to be known when reading them."""


@dataclass(frozen=True)
class Finding:
    """One matter, told so that a person can mend it."""

    kind: str
    """One of KINDS."""
    message: str
    sheet: str = ""
    """Name of the workbook without .xlsx; empty when it is not about one."""
    name: str = ""
    """Name of the image; empty when it is not about one."""

    @property
    def level(self) -> Level:
        """How bad it is."""
        return KINDS[self.kind]

    def to_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"level": self.level, **asdict(self)}
