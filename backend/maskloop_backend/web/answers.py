"""What the pool can answer at once: the images of tasks, and replies out of stored predictions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.results import Predicted, ResultCache, encode_result
from maskloop_backend.web.asked import Asked, View
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import Question, current_version, find_project, predictions_for, scores_of
from maskloop_learner.pool.schema import Prediction, Project, Score, Task, utcnow
from maskloop_learner.pool.store import StoreError
from maskloop_learner.train.fallback import version_fault

CACHE_BYTES = 64 << 20
SOME = 500
"""Ids in one SQL statement at most."""


@dataclass(frozen=True)
class Served:
    """A project and the prediction version it is answered with."""

    project_id: int
    ls_url: str
    interface: Interface
    version: str | None
    fault: str | None = None
    """Why nothing new can be predicted with it."""


class Answers:
    """Reads of the pool for /predict; all block, each for milliseconds unless many masks must be encoded."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.cache = ResultCache(CACHE_BYTES)

    def begin(self, project_ls_id: int, asked: list[Asked], *, look: bool = True) -> Served | None:
        """Find the project, the tasks' images and, with `look`, the replies that are there; None if it is unknown.

        An image that the current version has not predicted yet is answered with the version that Label Studio serves.
        """
        with self.pool.read() as session:
            project = find_project(session, project_ls_id)
            if project is None:
                return None
            interface = Interface.from_json(project.control)
            version = current_version(session, project.id)
            fault = version_fault(session, version) if version is not None else None
            served = Served(project.id, project.ls_url, interface, version, fault)
            before = project.served_version
            if served.version is not None:
                self._find_images(session, project, interface, [item for item in asked if item.open])
        if not look:
            return served
        self.collect(served, asked)
        # While a new champion's masks are made, the one before answers: nobody waits for them.
        self.collect(replace(served, version=before), asked)
        return served

    def _find_images(self, session: Session, project: Project, interface: Interface, asked: list[Asked]) -> None:
        rows: dict[tuple[int, str], Task] = {}
        for start in range(0, len(asked), SOME):
            ids = [item.ls_id for item in asked[start : start + SOME]]
            found = session.scalars(select(Task).where(Task.project_id == project.id, Task.ls_id.in_(ids)))
            rows |= {(task.ls_id, task.part): task for task in found}
        now = utcnow()
        for item in asked:
            item.views = [View(part) for part in interface.data_keys]
            there = [rows[key].blind for part in interface.data_keys if (key := (item.ls_id, part)) in rows]
            item.blind = any(there) if there else None
            for view in item.views:
                task = rows.get((item.ls_id, view.part))
                if task is not None and task.state == "ready" and task.image_digest:
                    view.question = Question(task.image_digest, task.prompt_digest)
                elif task is not None and task.state == "failed" and (task.retry_at is None or task.retry_at > now):
                    view.reason = task.error or "its image cannot be read"
            item.check_views()

    def collect(self, served: Served, asked: list[Asked]) -> None:
        """Fill in the replies of open tasks that the pool has by now."""
        if served.version is None:
            return
        waiting = [item for item in asked if item.open and _complete(item)]
        self._find_blind(served, [item for item in waiting if item.blind is None])
        for item in waiting:
            item.reply = self.cache.get(_key(served, item))
        waiting = [item for item in waiting if item.open]
        for start in range(0, len(waiting), SOME):
            self._read(served, served.version, waiting[start : start + SOME])

    def _find_blind(self, served: Served, asked: list[Asked]) -> None:
        """Of tasks that were taken in a moment ago."""
        if not asked:
            return
        wanted = Task.project_id == served.project_id, Task.ls_id.in_([item.ls_id for item in asked]), Task.blind
        with self.pool.read() as session:
            blind = set(session.scalars(select(Task.ls_id).where(*wanted)))
        for item in asked:
            item.blind = item.ls_id in blind

    def _read(self, served: Served, version: str, waiting: list[Asked]) -> None:
        questions = {question for item in waiting for question in item.questions}
        with self.pool.read() as session:
            found = predictions_for(session, version, questions)
            scores = scores_of(session, [prediction.id for prediction in found.values()])
        for item in waiting:
            if all(question in found for question in item.questions):
                self._answer(served, item, found, scores)

    def _answer(
        self,
        served: Served,
        item: Asked,
        found: dict[Question, Prediction],
        scores: dict[int, list[Score]],
    ) -> None:
        rows = [(view.part, found[view.question]) for view in item.views if view.question is not None]
        errors = [prediction.error for _, prediction in rows if prediction.error is not None]
        if len(errors) == len(rows):
            item.reason = errors[0]
            return
        images = [Predicted(part, prediction, scores.get(prediction.id, [])) for part, prediction in rows]
        try:
            reply = encode_result(images, interface=served.interface, store=self.pool.store, blind=bool(item.blind))
        except (StoreError, ValueError, OSError) as error:
            item.reason = f"its prediction cannot be encoded: {error}"
        else:
            item.reply = reply
            self.cache.put(_key(served, item), reply)


def _complete(item: Asked) -> bool:
    """Whether it is known of every image what to ask, or that it cannot be asked of."""
    return bool(item.questions) and all(view.question or view.reason for view in item.views)


def _key(served: Served, item: Asked) -> tuple[object, ...]:
    asked: Sequence[object] = [(view.part, view.question) for view in item.views]
    return (served.version, served.interface, bool(item.blind), *asked)
