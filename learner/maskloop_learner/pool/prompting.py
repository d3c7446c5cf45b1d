"""What the model is asked of each image of a project, worked out from rules, sheets, task data and annotators."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_learner.pool.schema import Project, PromptSet, Task
from maskloop_learner.prompts.rules import ALL, Prompt, default_prompts, resolve_prompts
from maskloop_learner.prompts.template import literal

DIGEST_CHARS = 16


def labels_on(project: Project, part: str) -> list[str]:
    """The labels that can be drawn on one image of the project's tasks, in the label config's order."""
    controls = project.control.get("controls", ())
    found = [label for control in controls if control["data_key"] == part for label in control["labels"]]
    return list(dict.fromkeys(found))


def parts_of(project: Project) -> list[str]:
    """The fields of a task that hold an image to be served, in the label config's order."""
    return list(dict.fromkeys(control["data_key"] for control in project.control.get("controls", ())))


def add_labels(templates: Mapping[str, str], labels: Iterable[str]) -> dict[str, str]:
    """The templates with the label's own name for every label that has none, unless there is one for all labels."""
    names = {} if ALL in templates else {label: literal(label.lower()) for label in labels}
    return {**names, **templates}


def ask(project: Project, task: Task, *, typed: Mapping[str, str] | None = None) -> dict[str, Prompt]:
    """Label -> what the model is asked of this image. `typed` adds to what annotators typed before."""
    return resolve_prompts(
        labels=labels_on(project, task.part),
        templates=project.prompts,
        data=task.data or {},
        typed={**(task.typed_prompts or {}), **(typed or {})},
        sheet=task.sheet_prompts or {},
    )


def digest_prompts(project: Project, asked: Mapping[str, Prompt]) -> str:
    """Names the texts; "" where they are what all images of the project are asked."""
    texts = {label: prompt.text for label, prompt in asked.items()}
    if texts == default_prompts(project.control.get("labels", []), project.prompts):
        return ""
    return _digest(texts)


def keep_prompts(session: Session, project: Project, asked: Mapping[str, Prompt]) -> str:
    """Have a set of prompts in the pool, for the workers to find by its digest, which is returned."""
    digest = digest_prompts(project, asked)
    if digest and session.get(PromptSet, digest) is None:
        session.add(PromptSet(digest=digest, prompts=as_json(asked)))
        session.flush()
    return digest


def set_prompts(session: Session, project: Project, task: Task) -> bool:
    """Work out what is asked of a task's image; return whether that is another thing than before."""
    asked = ask(project, task)
    before = task.prompt_digest or ""
    task.prompt_digest = keep_prompts(session, project, asked)
    task.prompts = as_json(asked) if task.prompt_digest else {}
    return task.prompt_digest != before


def rules_digest(project: Project) -> str:
    """Names all that determines the prompts of a project's tasks beside the tasks themselves."""
    parts = {part: labels_on(project, part) for part in parts_of(project)}
    return _digest([parts, project.prompts, project.sheet_digest])


def follow_rules(session: Session, project: Project, *, after: int, limit: int) -> tuple[int, int | None]:
    """Work out the prompts of the next tasks anew, those with ids larger than `after`.

    Returns how many are asked another thing, and the last task's id; None when all are done.
    """
    mine = Task.project_id == project.id, Task.deleted_at.is_(None), Task.id > after
    tasks = session.scalars(select(Task).where(*mine).order_by(Task.id).limit(limit)).all()
    changed = sum(set_prompts(session, project, task) for task in tasks)
    if len(tasks) == limit:
        return changed, tasks[-1].id
    project.prompted_with = rules_digest(project)
    return changed, None


def note_sheet(session: Session, project: Project) -> None:
    """Name the prompts that sheets gave to the project's tasks: another sheet makes another prediction version."""
    rows = session.execute(select(Task.ls_id, Task.part, Task.sheet_prompts).where(Task.project_id == project.id))
    given = sorted([ls_id, part, prompts] for ls_id, part, prompts in rows if prompts)
    project.sheet_digest = _digest(given) if given else ""


def as_json(asked: Mapping[str, Prompt]) -> dict[str, Any]:
    """Prompts as plain data."""
    return {label: asdict(prompt) for label, prompt in asked.items()}


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARS]
