"""The tasks of one /predict request, each on its way to a reply."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from maskloop_learner.pool.queries import Question

logger = logging.getLogger(__name__)

NAMED = 10
"""Tasks named in a line of the log at most."""


@dataclass
class View:
    """One image of a task: in the end it has a `question` for the model, or a `reason` why it cannot be asked."""

    part: str
    question: Question | None = None
    reason: str | None = None


@dataclass
class Asked:
    """One task of a request. It ends with a `reply`, or with the `reason` for an empty one."""

    place: int
    ls_id: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)
    blind: bool | None = None
    """Whether its annotator is to see no mask; None as long as the task is not in the pool."""
    reply: bytes | None = None
    reason: str | None = None

    @property
    def open(self) -> bool:
        """Neither answered nor given up."""
        return self.reply is None and self.reason is None

    @property
    def questions(self) -> list[Question]:
        """What is to be predicted for it, as far as that is known."""
        return [view.question for view in self.views if view.question is not None]

    def check_views(self) -> None:
        """Give the task up once none of its images can be asked of."""
        if self.open and self.views and all(view.reason for view in self.views):
            self.reason = self.views[0].reason


def read_task(place: int, task: Any) -> Asked:
    """A task as Label Studio sends it; what cannot be one carries the reason."""
    if not isinstance(task, dict):
        return Asked(place, reason="it is not a JSON object")
    ls_id, data = task.get("id"), task.get("data")
    if not isinstance(ls_id, int) or isinstance(ls_id, bool) or not 0 < ls_id < 1 << 31:
        return Asked(place, reason="it has no valid id")
    return Asked(place, ls_id, data if isinstance(data, dict) else {})


def give_up(asked: Iterable[Asked], reason: str) -> None:
    """Let every open task end with this reason."""
    for item in asked:
        if item.open:
            item.reason = reason


def log_reasons(project_ls_id: int, asked: Iterable[Asked]) -> None:
    """One line per reason, with the first ids of the tasks that got an empty result for it."""
    reasons: dict[str, list[str]] = {}
    for item in asked:
        if item.reason is not None:
            reasons.setdefault(item.reason, []).append(str(item.ls_id or f"number {item.place + 1}"))
    for reason, ids in reasons.items():
        more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
        named = ", ".join(ids[:NAMED]) + more
        logger.warning("predict: project %d: empty result for task %s: %s", project_ls_id, named, reason)
