"""What became of every file of an import."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Report:
    """Counts, and a reason for each file that was not taken."""

    imported: int = 0
    """Pictures that became tasks."""
    labelled: int = 0
    """Of these, those that came with labels (or predictions)."""
    added: int = 0
    """Labels (or predictions) that were added to tasks which were there."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    def count(self, *, masks: bool) -> None:
        """One more picture became a task."""
        self.imported += 1
        self.labelled += masks

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "imported": self.imported,
            "labelled": self.labelled,
            "added": self.added,
            "skipped": [{"name": name, "reason": reason} for name, reason in self.skipped],
            "refused": [{"name": name, "reason": reason} for name, reason in self.refused],
        }

    def skip_reasons(self) -> Counter[str]:
        """Reason -> number of files that were passed over for it."""
        return Counter(reason for _, reason in self.skipped)
