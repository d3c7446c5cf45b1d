"""From Label Studio into the pool: tasks, images and annotations, by time of change and now and then in full."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from maskloop_backend.intake import HeadersFor, IntakeError, NoRoom, Wanted, take_in
from maskloop_backend.labelstudio.client import LabelStudio, TaskRow
from maskloop_backend.sync.annotations import current_labels, drop_annotations, is_stale, take_annotation
from maskloop_backend.sync.together import do_together
from maskloop_learner.pool.events import record
from maskloop_learner.pool.groups import choose_blind, set_group
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.prompting import parts_of, set_prompts
from maskloop_learner.pool.pushes import mark_stale
from maskloop_learner.pool.schema import Image, Project, Push, Task, utcnow
from maskloop_learner.settings import Settings

log = logging.getLogger(__name__)

OVERLAP = timedelta(seconds=60)
"""Changes are asked for again this far back: clocks, open transactions and imports set times in the past."""
TASKS_AT_ONCE = 500
IMAGES_AT_ONCE = 200
FETCHES_AT_ONCE = 4
IMAGES_SECONDS = 2.0
"""For how long images are begun to be fetched before other work has its turn."""
BODIES_AT_ONCE = 20
FETCH_TIMEOUT = 60.0


@dataclass
class Pulled:
    """What a look at Label Studio brought."""

    tasks: int = 0
    labels: int = 0
    deleted: int = 0


class Puller:
    """Brings one project's news into the pool. Every step may be repeated; what is there already costs little."""

    def __init__(
        self,
        *,
        pool: Pool,
        client: LabelStudio,
        settings: Settings,
        headers_for: HeadersFor,
        beat: Callable[[], None],
    ) -> None:
        self.pool, self.client, self.settings = pool, client, settings
        self.headers_for, self.beat = headers_for, beat
        self.trouble: str | None = None
        """What hinders the project although it can be pulled; a pull leaves it as the project's error."""
        self._authors: dict[int, str] = {}

    def pull(self, project_id: int, *, full: bool) -> Pulled:
        """Take in what changed; with `full` compare all ids, so that nothing that left no trace is missed."""
        with self.pool.read() as session:
            project = session.get_one(Project, project_id)
        since = None if full or project.synced_at is None else project.synced_at - OVERLAP
        changes = self.client.changed_tasks(project.ls_id, since)
        pulled = Pulled()
        for start in range(0, len(changes.tasks), TASKS_AT_ONCE):
            self.beat()
            heads = changes.tasks[start : start + TASKS_AT_ONCE]
            self._take_tasks(project, heads, pulled)
            self._take_page(project, heads, pulled)
        if since is None:
            pulled.deleted += self._drop_tasks(project, {head.id for head in changes.tasks})
        with self.pool.write() as session:
            row = session.get_one(Project, project_id)
            # Label Studio's own clock at the start of this look: nothing later can have been missed.
            row.synced_at, row.looked_at, row.sync_error = changes.until, utcnow(), self.trouble
            if since is None:
                row.checked_at = utcnow()
        return pulled

    def take_images(self, project_id: int) -> int:
        """Fetch some images that are not in the pool yet, and again those whose retry is due.

        Returns how many are in the pool now, or are known not to be had.
        """
        with self.pool.read() as session:
            project = session.get_one(Project, project_id)
            due = or_(Task.state == "new", (Task.state == "failed") & (Task.retry_at <= utcnow()))
            statement = select(Task).where(Task.project_id == project_id, Task.deleted_at.is_(None), due)
            tasks = session.scalars(statement.order_by(Task.id).limit(IMAGES_AT_ONCE)).all()
        settled: list[bool] = []

        def take(task: Task) -> None:
            self.beat()
            settled.append(self._take_image(project, task))

        do_together(take, tasks, threads=FETCHES_AT_ONCE, seconds=IMAGES_SECONDS)
        return sum(settled)

    def _take_page(self, project: Project, heads: Sequence[TaskRow], pulled: Pulled) -> None:
        stale: list[int] = []
        with self.pool.read() as session:
            tasks = self._tasks(session, project, [head.id for head in heads])
            labels = current_labels(session, [task.id for parts in tasks.values() for task in parts])
        for head in heads:
            there = {annotation.id for annotation in head.annotations}
            dropped: set[int] = set()
            for task in tasks[head.id]:
                known = labels.get(task.id, {})
                if gone := known.keys() - there:
                    drop_annotations(self.pool, project.id, task.id, sorted(gone))
                    dropped |= gone
                if any(is_stale(known.get(annotation.id), annotation) for annotation in head.annotations):
                    stale.append(head.id)
            pulled.deleted += len(dropped)
        stale = list(dict.fromkeys(stale))
        for start in range(0, len(stale), BODIES_AT_ONCE):
            self.beat()
            pulled.labels += self._take_annotations(project, stale[start : start + BODIES_AT_ONCE])

    def _take_annotations(self, project: Project, ls_ids: Sequence[int]) -> int:
        # The image first: an annotation is checked against its size.
        with self.pool.read() as session:
            tasks = self._tasks(session, project, ls_ids)
        for task in (task for parts in tasks.values() for task in parts):
            if task.state == "new":
                self._take_image(project, task)
        with self.pool.read() as session:
            tasks = self._tasks(session, project, ls_ids)
            every = [task for parts in tasks.values() for task in parts]
            images = {task.id: session.get(Image, task.image_digest) for task in every if task.image_digest}
        new = 0
        for ls_id, bodies in self.client.annotations(project.ls_id, ls_ids).items():
            for body in bodies:
                self.beat()
                authors = self._authors_with(body.author)
                taken = [
                    take_annotation(self.pool, project, task, images.get(task.id), body, authors=authors)
                    for task in tasks[ls_id]
                ]
                new += any(taken)
        return new

    def _authors_with(self, user_id: int | None) -> dict[int, str]:
        if user_id is not None and user_id not in self._authors:
            self._authors = self.client.users()
        return self._authors

    def _take_tasks(self, project: Project, heads: Sequence[TaskRow], pulled: Pulled) -> None:
        keys = parts_of(project)
        with self.pool.write() as session:
            row = session.get_one(Project, project.id)
            mine = Task.project_id == project.id, Task.ls_id.in_([head.id for head in heads])
            known = {(task.ls_id, task.part): task for task in session.scalars(select(Task).where(*mine))}
            regrouped: set[int] = set()
            for head in heads:
                pulled.tasks += not any((head.id, key) in known for key in keys)
                for key in keys:
                    if self._take_part(session, row, head, key, known.get((head.id, key))):
                        regrouped.add(head.id)
            if regrouped:
                choose_blind(session, row, regrouped)

    @staticmethod
    def _take_part(session: Session, project: Project, head: TaskRow, key: str, task: Task | None) -> bool:
        """Take in one image of a task; return whether it is new, or belongs to another group than before."""
        new = task is None
        address = head.data.get(key)
        url = address if isinstance(address, str) else ""
        if task is None:
            task = Task(project_id=project.id, ls_id=head.id, part=key, state="new", url=url, attempts=0)
            session.add(task)
        elif task.url != url:
            task.url, task.state, task.error, task.attempts = url, "new", None, 0
            task.image_digest = None
            mark_stale(session, task, "image")
        task.data, task.ls_updated_at, task.deleted_at = head.data, head.updated_at, None
        before = task.prompt_digest
        # What was predicted with other prompts is not what the image is asked now.
        if set_prompts(session, project, task) and before is not None and task.id is not None:
            mark_stale(session, task, "prompts")
        return set_group(project, task) or new

    def _drop_tasks(self, project: Project, seen: set[int]) -> int:
        with self.pool.write() as session:
            statement = select(Task).where(Task.project_id == project.id, Task.deleted_at.is_(None))
            keys = parts_of(project)
            gone = [task for task in session.scalars(statement) if task.ls_id not in seen or task.part not in keys]
            for task in gone:
                task.deleted_at = utcnow()
                record(session, "task.deleted", project_id=project.id, subject=str(task.ls_id))
            # Its predictions went with it; Label Studio on SQLite gives the number of the last task to the next one.
            ids = [task.id for task in gone if task.ls_id not in seen]
            theirs = update(Push).where(Push.task_id.in_(ids), Push.gone_at.is_(None))
            session.execute(theirs.values(gone_at=utcnow()))
        return len({task.ls_id for task in gone} - seen)

    def _take_image(self, project: Project, task: Task) -> bool:
        wanted = Wanted(project.id, project.ls_url, task.ls_id, task.part, task.data)
        try:
            take_in(wanted, pool=self.pool, settings=self.settings, headers_for=self.headers_for, timeout=FETCH_TIMEOUT)
        except IntakeError as error:
            # The task carries the reason; all others go on.
            log.warning("project %d, task %d: %s", project.ls_id, task.ls_id, error)
            return not isinstance(error, NoRoom)
        return True

    @staticmethod
    def _tasks(session: Session, project: Project, ls_ids: Sequence[int]) -> dict[int, list[Task]]:
        """Label Studio's id -> the task's images that are served."""
        keys = parts_of(project)
        statement = select(Task).where(Task.project_id == project.id, Task.ls_id.in_(list(ls_ids)))
        found: dict[int, list[Task]] = {ls_id: [] for ls_id in ls_ids}
        for task in session.scalars(statement.where(Task.part.in_(keys)).order_by(Task.id)):
            found[task.ls_id].append(task)
        return found
