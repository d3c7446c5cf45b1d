"""From the pool into Label Studio: predictions in bulk, none twice, then the switch to their version."""

import json
import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.results import Predicted, encode_result
from maskloop_backend.sync.retention import drop_empty_replies
from maskloop_learner.pool.events import record
from maskloop_learner.pool.members import batch_scores
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import answers, current_version, drawn, in_open_batch, scores_of, servable
from maskloop_learner.pool.schema import Label, Prediction, PredictionVersion, Project, Push, Score, Task, utcnow
from maskloop_learner.pool.store import BlobError

log = logging.getLogger(__name__)

TASKS_AT_ONCE = 100
BYTES_AT_ONCE = 8_000_000
"""Of JSON in one request: Label Studio holds a multiple of it in memory."""
OURS = re.compile(r"maskloop-[0-9a-f]{12}")
"""What `prediction_version` makes."""
SECONDS_AT_ONCE = 10.0
"""Of pushing before labels are looked for again: a large pool takes many minutes."""


@dataclass
class Ready:
    """A task whose images are all predicted, which Label Studio should have."""

    ls_id: int
    parts: list[tuple[str, Prediction]]
    """Field of the task's data -> what was predicted of the image in it."""
    blind: bool = False
    """Its annotator is to see none of it."""
    score: float | None = None
    """Its serving score in the open batch; None outside."""


class Pusher:
    """Brings one project's predictions to Label Studio. Safe to repeat after a crash at any point."""

    def __init__(self, *, pool: Pool, client: LabelStudio, beat: Callable[[], None]) -> None:
        self.pool, self.client, self.beat = pool, client, beat

    def push(self, project_id: int, version: str) -> bool:
        """Push what is scored and not in Label Studio yet, for a while; return whether all of it is there now.

        Ends early when another version is to be served: a rollback waits for it.
        """
        end = time.monotonic() + SECONDS_AT_ONCE
        with self.pool.read() as session:
            wanted = current_version(session, project_id)
        while ready := self._ready(project_id, version):
            with self.pool.read() as session:
                project = session.get_one(Project, project_id)
                if current_version(session, project_id) != wanted:
                    return False
            before = self.adopt(project, version, [item.ls_id for item in ready])
            missing = [item for item in ready if item.ls_id not in before]
            for rows in self._chunks(project, missing):
                self.beat()
                sent = self.client.import_predictions(project.ls_id, rows)
                if sent.unknown_tasks:
                    self.note_deleted(project, sent.unknown_tasks)
            # Label Studio does not say which ids it gave, and may have saved a reply to /predict meanwhile.
            after = self.adopt(project, version, [item.ls_id for item in ready])
            if not after:
                break  # nothing arrived: the tasks are gone there, which the next full check finds
            if time.monotonic() > end:
                return False
        return True

    def adopt(self, project: Project, version: str, ls_ids: Sequence[int]) -> set[int]:
        """Note the ids of these tasks' predictions of a version, delete doubles; return the tasks that have one."""
        found: dict[int, list[tuple[int, float | None]]] = {}
        for entry in self.client.predictions_index(project.ls_id, version, tasks=ls_ids):
            found.setdefault(entry.task, []).append((entry.id, entry.score))
        for doubles in found.values():
            doubles.sort()
            # The oldest stays: it is the one that somebody may have open.
            extra = [prediction_id for prediction_id, _ in doubles[1:]]
            if extra:
                log.info("project %d: predictions %s are doubles and go", project.ls_id, extra)
                self.client.delete_predictions(extra)
        with self.pool.write() as session:
            tasks = session.execute(select(Task).where(Task.project_id == project.id, Task.ls_id.in_(list(ls_ids))))
            # The first of a task's images stands for all of it.
            ids = {task.ls_id: task.id for task in sorted(tasks.scalars(), key=lambda task: -task.id)}
            _forget_missing(session, project.id, version, ids, {d[0][0] for d in found.values()})
            for ls_id, doubles in found.items():
                prediction_id, score = doubles[0]
                key = {"ls_prediction_id": prediction_id, "project_id": project.id}
                if ls_id not in ids:
                    continue
                if (push := session.get(Push, key)) is None:
                    session.add(Push(**key, task_id=ids[ls_id], version_id=version, score=score))
                else:
                    if push.gone_at is not None or push.version_id != version:
                        # Label Studio on SQLite may give the number of one that was deleted to the next.
                        push.version_id, push.stale, push.stale_at = version, "", None
                    push.gone_at, push.task_id, push.score = None, ids[ls_id], score
        return set(found)

    def recheck(self, project_id: int, version: str) -> None:
        """Compare all of a version's predictions with Label Studio: deleted ones are pushed again, doubles go.

        Versions of ours that the pool does not know, as after the restore of a backup, are noted: they go like all
        old ones.
        """
        with self.pool.read() as session:
            project = session.get_one(Project, project_id)
            statement = select(Task.ls_id).join(Push, Push.task_id == Task.id)
            held = set(session.scalars(statement.where(Push.version_id == version, Push.gone_at.is_(None))))
            noted = set(session.scalars(select(PredictionVersion.id)))
            noted |= set(session.scalars(select(Push.version_id).distinct()))
        counts = self.client.prediction_counts(project.ls_id)
        drop_empty_replies(self.client, project.ls_id, counts)
        ids = [
            task
            for task, count in sorted(counts.items())
            if (version in count.versions) != (task in held) or count.total > len(count.versions)
        ]
        for start in range(0, len(ids), TASKS_AT_ONCE):
            self.beat()
            self.adopt(project, version, ids[start : start + TASKS_AT_ONCE])
        for strange in sorted({name for count in counts.values() for name in count.versions} - noted):
            if not OURS.fullmatch(strange):
                continue
            ids = [task for task, count in sorted(counts.items()) if strange in count.versions]
            log.info("project %d: %s, which %d tasks hold, is not known here", project.ls_id, strange, len(ids))
            for start in range(0, len(ids), TASKS_AT_ONCE):
                self.beat()
                self.adopt(project, strange, ids[start : start + TASKS_AT_ONCE])

    def switch(self, project_id: int, version: str) -> bool:
        """Have Label Studio serve a version, if it holds a prediction of it; return whether it serves it now."""
        with self.pool.read() as session:
            project = session.get_one(Project, project_id)
            held = session.scalar(
                select(func.count(Push.ls_prediction_id)).where(
                    Push.project_id == project_id, Push.version_id == version, Push.gone_at.is_(None)
                )
            )
        if not held:
            return False
        if self.client.project(project.ls_id).model_version != version:
            self.client.set_model_version(project.ls_id, version)
        if project.served_version != version:
            with self.pool.write() as session:
                row = session.get_one(Project, project_id)
                row.previous_version, row.served_version, row.switched_at = row.served_version, version, utcnow()
                data = {"before": row.previous_version, "predictions": held}
                record(session, "version.served", project_id=project_id, subject=version, data=data)
            log.info("project %d: Label Studio serves %s (%d predictions)", project.ls_id, version, held)
        return True

    def withdraw(self, project_id: int, version: str | None, *, open_for: timedelta) -> bool:
        """Take back predictions that are stale, for a while; return whether all are gone that may go now.

        Those of a replaced image go at once. Others, of `version` alone, stay until what replaces them is predicted,
        while somebody has the task open (Submit would fail), and once it is labelled. `open_for` is how long a tab may
        hold a task in which a prompt was typed.
        """
        anyone = aliased(Task)
        labelled = exists().where(
            *_same_task(anyone, project_id), Label.task_id == anyone.id, Label.current, ~Label.cancelled
        )
        left = or_(Push.stale != "typed", Push.stale_at < utcnow() - open_for)
        ready = Push.version_id == version, left, ~_unfinished(project_id, version or ""), ~labelled
        statement = (
            select(Push, Task.ls_id)
            .join(Task, Task.id == Push.task_id)
            .where(Push.project_id == project_id, Push.gone_at.is_(None), Push.stale != "")
            .where(or_(Push.stale == "image", and_(*ready)))
            .order_by(Push.stale != "image", Push.ls_prediction_id)
        )
        with self.pool.read() as session:
            due = [(push, ls_id) for push, ls_id in session.execute(statement)]
            ls_project = session.get_one(Project, project_id).ls_id
        busy = self.client.busy_tasks(ls_project) if any(push.stale != "image" for push, _ in due) else set()
        end = time.monotonic() + SECONDS_AT_ONCE
        for push, ls_id in due:
            if push.stale != "image" and ls_id in busy:
                continue
            if time.monotonic() > end:
                return False
            self.beat()
            self.client.delete_predictions([push.ls_prediction_id])
            with self.pool.write() as session:
                row = session.get_one(Push, (push.ls_prediction_id, project_id))
                row.gone_at, row.stale, row.stale_at = utcnow(), "", None
        return True

    def note_deleted(self, project: Project, ls_ids: Collection[int]) -> None:
        """Note that tasks are gone in Label Studio, as a push found out."""
        log.info("project %d: tasks %s were deleted meanwhile", project.ls_id, sorted(ls_ids))
        with self.pool.write() as session:
            statement = select(Task).where(Task.project_id == project.id, Task.ls_id.in_(list(ls_ids)))
            for task in session.scalars(statement):
                task.deleted_at = utcnow()

    def _ready(self, project_id: int, version: str) -> list[Ready]:
        other = aliased(Task)
        held = Push.task_id == other.id, Push.version_id == version, Push.gone_at.is_(None)
        done = exists().where(*_same_task(other, project_id), *held)
        statement = (
            select(Task.ls_id)
            .join(Prediction, answers(Prediction, version))
            .where(*servable(project_id), Prediction.uncertainty.is_not(None), ~done, ~drawn())
            .where(~_unfinished(project_id, version))
            .group_by(Task.ls_id)
            .order_by(func.max(Prediction.uncertainty).desc(), Task.ls_id)
            .limit(TASKS_AT_ONCE)
        )
        with self.pool.read() as session:
            scores = batch_scores(session, project_id)
            members = statement.where(in_open_batch(project_id))
            first = sorted(session.scalars(members), key=scores.__getitem__) if scores else []
            # The open batch before all else.
            ls_ids = first or session.scalars(statement)
            found = {ls_id: Ready(ls_id, [], score=scores.get(ls_id)) for ls_id in ls_ids}
            parts = (
                select(Task.ls_id, Task.part, Task.blind, Prediction)
                .join(Prediction, answers(Prediction, version))
                .where(*servable(project_id), Task.ls_id.in_(list(found)))
                .order_by(Task.id)
            )
            for ls_id, part, blind, prediction in session.execute(parts):
                found[ls_id].parts.append((part, prediction))
                found[ls_id].blind |= blind
            return list(found.values())

    def _chunks(self, project: Project, ready: Sequence[Ready]) -> Iterator[list[dict[str, Any]]]:
        interface = Interface.from_json(project.control)
        with self.pool.read() as session:
            scores = scores_of(session, [prediction.id for item in ready for _, prediction in item.parts])
        rows: list[dict[str, Any]] = []
        size = 0
        for item in ready:
            images = [Predicted(part, prediction, scores.get(prediction.id, [])) for part, prediction in item.parts]
            try:
                text = encode_result(images, interface=interface, store=self.pool.store, blind=item.blind)
            except (BlobError, ValueError) as error:
                self._predict_again(project, item, error)
                continue
            if rows and size + len(text) > BYTES_AT_ONCE:
                yield rows
                rows, size = [], 0
            row = {"task": item.ls_id, **json.loads(text)}
            rows.append(row if item.score is None else {**row, "score": item.score})
            size += len(text)
        if rows:
            yield rows

    def _predict_again(self, project: Project, item: Ready, error: Exception) -> None:
        log.warning("project %d, task %d: its mask is lost and is made anew: %s", project.ls_id, item.ls_id, error)
        with self.pool.write() as session:
            ids = [prediction.id for _, prediction in item.parts]
            session.execute(delete(Score).where(Score.prediction_id.in_(ids)))
            session.execute(delete(Prediction).where(Prediction.id.in_(ids)))


def _same_task(other: type[Task], project_id: int) -> tuple[ColumnElement[bool], ...]:
    """Conditions on another row of `Task`: an image of the same task in Label Studio."""
    return other.project_id == project_id, other.ls_id == Task.ls_id


def _unfinished(project_id: int, version: str) -> ColumnElement[bool]:
    """Condition on a task: one of its images is not predicted yet as it is asked now.

    An image that cannot be read holds its task's other images up no longer than it is new.
    """
    other = aliased(Task)
    answered = exists().where(
        Prediction.version_id == version,
        Prediction.image_digest == other.image_digest,
        Prediction.prompt_digest == other.prompt_digest,
    )
    there = other.deleted_at.is_(None), other.state != "failed", ~answered
    return exists().where(*_same_task(other, project_id), *there)


def _forget_missing(session: Session, project_id: int, version: str, tasks: dict[int, int], there: set[int]) -> None:
    statement = select(Push).where(
        Push.project_id == project_id,
        Push.version_id == version,
        Push.gone_at.is_(None),
        Push.task_id.in_(tasks.values()),
    )
    for push in session.scalars(statement):
        if push.ls_prediction_id not in there:
            push.gone_at = utcnow()
