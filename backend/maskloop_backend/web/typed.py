"""Prompts that an annotator types: kept for the image, and asked of it at once."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select

from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.sync.annotations import find_typed
from maskloop_backend.web.answers import Served
from maskloop_backend.web.asked import Asked
from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.prompting import set_prompts
from maskloop_learner.pool.pushes import mark_stale
from maskloop_learner.pool.queries import Question
from maskloop_learner.pool.schema import Project, Task


def typed_parts(interface: Interface, context: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Field of the task's data -> label -> prompt, out of the regions that Label Studio sends while one types."""
    regions = list(context)
    found = {part: find_typed(regions, interface.on(part)) for part in interface.data_keys}
    return {part: typed for part, typed in found.items() if typed}


def note_typed(pool: Pool, served: Served, item: Asked, context: Iterable[Mapping[str, Any]]) -> None:
    """Keep what was typed for a task's images, and ask just that; where nothing was typed, all stays as it is."""
    parts = typed_parts(served.interface, context)
    if not parts:
        return
    item.views = [view for view in item.views if view.part in parts]
    with pool.write() as session:
        project = session.get_one(Project, served.project_id)
        statement = select(Task).where(Task.project_id == project.id, Task.ls_id == item.ls_id)
        tasks = {task.part: task for task in session.scalars(statement)}
        for view in item.views:
            task = tasks.get(view.part)
            if task is None:
                view.reason = view.reason or "its image is not in the pool yet"
                continue
            task.typed_prompts = {**(task.typed_prompts or {}), **parts[view.part]}
            if set_prompts(session, project, task):
                mark_stale(session, task, "typed")
            if view.question is not None:
                view.question = Question(view.question.image, task.prompt_digest)
            data = {"part": view.part, "prompts": parts[view.part]}
            record(session, "prompt.typed", project_id=project.id, subject=str(item.ls_id), data=data)
    item.check_views()
