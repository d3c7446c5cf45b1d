"""Objects of a subclass for requests: a new one each time, or a kept one where the class asks for it."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from maskloop_backend.ml_base.base import LabelStudioMLBase
from maskloop_backend.ml_base.state import State

KEPT = 4
"""Idle objects of one project at most."""


@dataclass
class _Idle:
    model: LabelStudioMLBase
    label_config: str | None
    revision: int


class Instances:
    """Lends objects of one class; no object is ever in two threads."""

    def __init__(self, model_class: type[LabelStudioMLBase], state: State) -> None:
        self.model_class, self.state = model_class, state
        self._idle: dict[str, list[_Idle]] = defaultdict(list)
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self, project: str, label_config: str | None) -> Iterator[LabelStudioMLBase]:
        """An object for a project; one that failed is not used again."""
        lent = self._find(project, label_config) if self.model_class.REUSE else None
        if lent is None:
            # Read before: what changes during or after construction makes the object stale.
            revision = self.state.revision(project) if self.model_class.REUSE else 0
            lent = _Idle(self.model_class(project_id=project, label_config=label_config), label_config, revision)
        yield lent.model
        if self.model_class.REUSE:
            with self._lock:
                self._idle[project] = [*self._idle[project][-KEPT + 1 :], lent]

    def _find(self, project: str, label_config: str | None) -> _Idle | None:
        revision = self.state.revision(project)
        with self._lock:
            fresh = [
                idle
                for idle in self._idle[project]
                if idle.revision == revision and label_config in (None, idle.label_config)
            ]
            found = fresh.pop() if fresh else None
            self._idle[project] = fresh
        return found
