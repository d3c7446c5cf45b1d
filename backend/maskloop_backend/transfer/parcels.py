"""What an import is about to send: pictures with the tasks that they become."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VERSION = "imported"
"""Model version of imported predictions."""
BYTES_A_WORD = 8
"""Of memory for one number of a region."""


@dataclass(frozen=True)
class Parcel:
    """A picture on its way."""

    name: str
    key: str
    task: Mapping[str, Any]
    """Without the image's address, when `data` is given."""
    data: bytes | None
    masks: bool

    @property
    def weight(self) -> int:
        """About the bytes that it takes in memory."""
        rows = [*self.task.get("annotations", ()), *self.task.get("predictions", ())]
        return len(self.data or b"") + sum(
            BYTES_A_WORD * len(value)
            for row in rows
            for region in row["result"]
            for value in region["value"].values()
            if isinstance(value, list | str)
        )


def prediction_of(result: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of a prediction of these regions."""
    # A score that is null would be served before all others.
    return {"result": result, "model_version": VERSION, "score": 1.0}
