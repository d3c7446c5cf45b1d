"""How much room is left where an installation writes, and what is to stop before it is used up.

Below `min_free_mb` no training starts or goes on; below a quarter of it no image is fetched either. What is left is
for labels, predictions and the database, which are small.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from maskloop_learner.settings import Settings

SCARCE = 4
"""The part of `min_free_mb` that is kept for labels: one in so many."""


@dataclass(frozen=True)
class Room:
    """Free space, in MB, on the fullest disk that is written to."""

    path: Path
    free: float
    wanted: int

    @property
    def is_low(self) -> bool:
        """Whether trainings have to wait."""
        return self.free < self.wanted

    @property
    def is_scarce(self) -> bool:
        """Whether images have to wait too."""
        return self.free < self.wanted / SCARCE

    def __str__(self) -> str:
        waits = "trainings and new images wait" if self.is_scarce else "trainings wait"
        return f"{self.free:.0f} MB are free in {self.path}, fewer than MASKLOOP_MIN_FREE_MB ({self.wanted}): {waits}"


def measure_room(settings: Settings) -> Room:
    """Look at the home folder's disk, and at the store's where that is another local one."""
    folders = [settings.home]
    if settings.resolved_store_url.startswith("file://"):
        folders.append(Path(settings.resolved_store_url.removeprefix("file://")))
    found = [Room(folder, free_megabytes(folder), settings.min_free_mb) for folder in folders]
    return min(found, key=lambda room: room.free)


def free_megabytes(folder: Path) -> float:
    """Free space on the disk of a folder, which need not be there yet, for a user who is not root."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free / 1e6
