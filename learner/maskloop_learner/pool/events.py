"""The append-only log of what happened, when, and who or what did it."""

from typing import Any

from sqlalchemy.orm import Session

from maskloop_learner.pool.schema import Event


def record(
    session: Session,
    kind: str,
    *,
    project_id: int | None = None,
    subject: str = "",
    data: dict[str, Any] | None = None,
) -> None:
    """Append an event to the log within the caller's transaction."""
    session.add(Event(kind=kind, project_id=project_id, subject=subject, data=data or {}))
