"""What the pool can answer at once: the images of tasks, and replies out of stored predictions."""

from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_backend.results import Control, ResultCache, encode_result
from maskloop_backend.web.asked import Asked
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import current_version, find_project, predictions_for, scores_of
from maskloop_learner.pool.schema import Project, Task, utcnow
from maskloop_learner.pool.store import StoreError

CACHE_BYTES = 64 << 20
SOME = 500
"""Ids in one SQL statement at most."""


@dataclass(frozen=True)
class Served:
    """A project and the prediction version it is answered with."""

    project_id: int
    ls_url: str
    data_key: str
    control: Control
    version: str | None


class Answers:
    """Reads of the pool for /predict; all block, each for milliseconds unless many masks must be encoded."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.cache = ResultCache(CACHE_BYTES)

    def begin(self, project_ls_id: int, asked: list[Asked]) -> Served | None:
        """Find the project, the tasks' images and the replies that are there; None for an unknown project.

        An image that the current version has not predicted yet is answered with the version that Label Studio serves.
        """
        with self.pool.read() as session:
            project = find_project(session, project_ls_id)
            if project is None:
                return None
            names = {name: str(project.control.get(name, "")) for name in ("from_name", "to_name", "data_key")}
            served = Served(
                project.id,
                project.ls_url,
                names["data_key"],
                Control(names["from_name"], names["to_name"]),
                current_version(session, project.id),
            )
            before = project.served_version
            if served.version is not None:
                self._find_images(session, project, [item for item in asked if item.open])
        self.collect(served, asked)
        # While a new champion's masks are made, the one before answers: nobody waits for them.
        self.collect(replace(served, version=before), asked)
        return served

    def _find_images(self, session: Session, project: Project, asked: list[Asked]) -> None:
        rows: dict[int, Task] = {}
        for start in range(0, len(asked), SOME):
            ids = [item.ls_id for item in asked[start : start + SOME]]
            found = session.scalars(select(Task).where(Task.project_id == project.id, Task.ls_id.in_(ids)))
            rows |= {task.ls_id: task for task in found}
        now = utcnow()
        for item in asked:
            task = rows.get(item.ls_id)
            if task is not None and task.state == "ready":
                item.digest = task.image_digest
            elif task is not None and task.state == "failed" and (task.retry_at is None or task.retry_at > now):
                item.reason = task.error or "its image cannot be read"

    def collect(self, served: Served, asked: list[Asked]) -> None:
        """Fill in the replies of open tasks that the pool has by now."""
        if served.version is None:
            return
        waiting = [item for item in asked if item.open and item.digest]
        for item in waiting:
            item.reply = self.cache.get((served.version, item.digest, served.control))
        waiting = [item for item in waiting if item.open]
        for start in range(0, len(waiting), SOME):
            self._read(served, served.version, waiting[start : start + SOME])

    def _read(self, served: Served, version: str, waiting: list[Asked]) -> None:
        with self.pool.read() as session:
            found = predictions_for(session, version, {item.digest for item in waiting if item.digest})
            scores = scores_of(session, [prediction.id for prediction in found.values()])
        for item in waiting:
            prediction = found.get(item.digest or "")
            if prediction is None:
                continue
            if prediction.error is not None:
                item.reason = prediction.error
                continue
            try:
                reply = encode_result(
                    prediction, scores.get(prediction.id, []), control=served.control, store=self.pool.store
                )
            except (StoreError, ValueError, OSError) as error:
                item.reason = f"its prediction cannot be encoded: {error}"
            else:
                item.reply = reply
                self.cache.put((version, item.digest, served.control), reply)
