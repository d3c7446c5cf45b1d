"""The training that is queued or runs: how far it is, how its loss falls, and what it waits for."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from maskloop_learner.pool.schema import Snapshot
from maskloop_queue.triggers import active_round


@dataclass(frozen=True, kw_only=True)
class Learning:
    """A round that has not ended."""

    round: int
    state: str
    """queued or running."""
    cause: str
    """labels, cron, button, cli or demo."""
    labels: int
    """In its snapshot."""
    step: int
    """Steps done; 0 before the first."""
    steps: int
    loss: float | None
    eta: float | None
    """Seconds until the last step."""
    losses: tuple[tuple[int, float], ...]
    """(step, mean loss since the pair before)."""
    started_at: datetime | None
    failures: int
    reason: str
    """Of the last failure; "" without one."""
    retry_at: datetime | None

    @property
    def words(self) -> str:
        """What it does, in one sentence."""
        if self.state == "queued" and self.failures:
            when = f"; it is tried again at {self.retry_at:%H:%M} UTC" if self.retry_at else ""
            return f"It failed: {self.reason}{when}."
        if self.state == "queued":
            return "It waits for a training worker." if not self.step else "It was put back, and goes on where it was."
        if not self.step:
            return "It reads the images."
        if self.step < self.steps:
            return "It learns."
        return "It has learnt, and is compared with the champion."


def read_learning(session: Session, project_id: int) -> Learning | None:
    """The project's open round; None without one."""
    row = active_round(session, project_id)
    if row is None:
        return None
    count = session.scalar(select(func.json_array_length(Snapshot.label_ids)).where(Snapshot.id == row.snapshot_id))
    told = row.progress
    return Learning(
        round=row.id,
        state=row.state,
        cause=row.cause,
        labels=count or 0,
        step=told.get("step", 0),
        steps=told.get("steps", 0),
        loss=told.get("loss"),
        eta=told.get("eta"),
        losses=tuple((int(step), float(loss)) for step, loss in told.get("losses", ())),
        started_at=row.started_at,
        failures=row.failures,
        reason=row.reason or "",
        retry_at=row.retry_at,
    )
