"""What a training round works on."""

from dataclasses import dataclass
from pathlib import Path

from maskloop_learner.pool.snapshot import Manifest


@dataclass(frozen=True)
class Plan:
    """What a round works on, read once at its start."""

    round_id: int
    project_id: int
    snapshot_id: int
    manifest: Manifest
    folder: Path
    holder: str
    """This process, as `lease` names it; only the round's holder may publish."""
