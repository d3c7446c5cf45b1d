"""A batch in a project that has no model yet: empty predictions carry its order, and go when it is over."""

import time
from collections.abc import Callable, Mapping

from sqlalchemy import exists, select
from sqlalchemy.orm import aliased

from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.results import BATCHED
from maskloop_backend.sync.push import Pusher
from maskloop_learner.pool.members import batch_scores
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import drawn, in_open_batch, servable
from maskloop_learner.pool.schema import Label, Project, Push, Task, utcnow

SECONDS = 5.0
"""Of deleting before labels are looked for again."""
ROWS_AT_ONCE = 100


class Unmodelled:
    """Has Label Studio serve one project's batch before there is a model.

    Label Studio orders by the one version that its project names; a task without a prediction of it comes after all
    that have one. So the batch is used up in its order, and then tasks come in random order as before. Safe to repeat
    after a crash at any point.
    """

    def __init__(self, *, pool: Pool, client: LabelStudio, pusher: Pusher, beat: Callable[[], None]) -> None:
        self.pool, self.client, self.pusher, self.beat = pool, client, pusher, beat

    def serve(self, project: Project, *, look: bool) -> bool:
        """Bring it a step further; return whether more is to be done. `look`: at Label Studio's settings too."""
        with self.pool.read() as session:
            scores = batch_scores(session, project.id)
            held = Push.project_id == project.id, Push.version_id == BATCHED, Push.gone_at.is_(None)
            there = set(session.scalars(select(Task.ls_id).join(Push, Push.task_id == Task.id).where(*held)))
            waiting = select(Task.ls_id).where(*servable(project.id), ~drawn(), in_open_batch(project.id))
            missing = set(session.scalars(waiting)) - there
        if missing:
            rest = sorted(missing, key=scores.__getitem__)[:ROWS_AT_ONCE]
            self._push(project, {ls_id: scores[ls_id] for ls_id in rest})
        if missing or look:
            self._switch(project, there or missing, to=BATCHED if scores else "")
        if there and not scores and look:
            return not self._remove(project)
        return len(missing) > ROWS_AT_ONCE

    def _push(self, project: Project, scores: Mapping[int, float]) -> None:
        self.beat()
        before = self.pusher.adopt(project, BATCHED, list(scores))
        rows = [
            {"task": ls_id, "result": [], "score": score, "model_version": BATCHED}
            for ls_id, score in scores.items()
            if ls_id not in before
        ]
        if rows:
            sent = self.client.import_predictions(project.ls_id, rows)
            if sent.unknown_tasks:
                self.pusher.note_deleted(project, sent.unknown_tasks)
            self.pusher.adopt(project, BATCHED, list(scores))

    def _switch(self, project: Project, held: set[int], *, to: str) -> None:
        now = self.client.project(project.ls_id).model_version if held else to
        # A version that somebody chose in Label Studio is left alone when there is no batch.
        if now != to and (to or now == BATCHED):
            self.client.set_model_version(project.ls_id, to)

    def _remove(self, project: Project) -> bool:
        """Delete what carried a batch that has ended, for a while; return whether all is gone that may go.

        What somebody has open stays, as Submit would fail, and what a label names as its parent.
        """
        part = aliased(Task)
        parent = exists().where(
            part.project_id == Task.project_id,
            part.ls_id == Task.ls_id,
            Label.task_id == part.id,
            Label.parent_prediction == Push.ls_prediction_id,
        )
        statement = (
            select(Push, Task.ls_id)
            .join(Task, Task.id == Push.task_id)
            .where(Push.project_id == project.id, Push.version_id == BATCHED, Push.gone_at.is_(None), ~parent)
        )
        with self.pool.read() as session:
            old = [(push, ls_id) for push, ls_id in session.execute(statement)]
        busy = self.client.busy_tasks(project.ls_id) if old else set()
        end = time.monotonic() + SECONDS
        for push, ls_id in old:
            if ls_id in busy:
                continue
            if time.monotonic() > end:
                return False
            self.beat()
            self.client.delete_predictions([push.ls_prediction_id])
            with self.pool.write() as session:
                session.get_one(Push, (push.ls_prediction_id, project.id)).gone_at = utcnow()
        return True
