"""A project's prompts in the pool: what its tasks are asked by, changes to its templates, prompts out of sheets."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_learner.model.backbones import BackboneSpec
from maskloop_learner.pool.events import record
from maskloop_learner.pool.prompting import ask, note_sheet, set_prompts
from maskloop_learner.pool.schema import Project, Task
from maskloop_learner.prompts.rules import ALL, NEGATIVE, Prompt, default_prompts
from maskloop_learner.prompts.template import parse_template

EXAMPLES = 3
"""Of each matter, shown to a person."""
CHARACTERS_A_TOKEN = 3
"""A token has more on average: texts shorter than this many a token need not be counted."""


class PromptError(ValueError):
    """Prompts that a project cannot have; the message says why and what to do."""


@dataclass
class Survey:
    """How the tasks of a project are asked for one label."""

    label: str
    template: str | None
    default: str
    """What is asked where a task adds nothing."""
    tasks: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[str] = field(default_factory=Counter)
    """Reason -> tasks that are asked by the label's name although there is a template."""
    located: list[tuple[int, str]] = field(default_factory=list)
    """(task in Label Studio, prompt) that tells a location."""
    texts: Counter[str] = field(default_factory=Counter)
    """Prompt -> tasks."""

    def add(self, task: int, prompt: Prompt) -> None:
        """Count a task."""
        self.tasks += 1
        self.sources[prompt.source] += 1
        self.texts[prompt.text] += 1
        if prompt.reason:
            self.fallbacks[prompt.reason] += 1
        if prompt.located:
            self.located.append((task, prompt.text))

    def as_json(self) -> dict[str, Any]:
        """For a script."""
        return {
            "label": self.label,
            "template": self.template,
            "default": self.default,
            "tasks": self.tasks,
            "sources": dict(self.sources),
            "fallbacks": dict(self.fallbacks),
            "located": [{"task": task, "prompt": text} for task, text in self.located],
            "examples": [{"prompt": text, "tasks": count} for text, count in self.texts.most_common(EXAMPLES)],
        }


def survey_prompts(session: Session, project: Project) -> list[Survey]:
    """Every label of the project with the prompts of its tasks. Raises TemplateError for a bad template."""
    labels, templates = list(project.control["labels"]), project.prompts
    defaults = default_prompts(labels, templates)
    found = {x: Survey(x, templates.get(x) or templates.get(ALL), defaults[x]) for x in labels}
    for task in tasks_of(session, project.id):
        for label, prompt in ask(project, task).items():
            found[label].add(task.ls_id, prompt)
    return list(found.values())


def tasks_of(session: Session, project_id: int) -> list[Task]:
    """The project's tasks that are still there, in Label Studio's order."""
    statement = select(Task).where(Task.project_id == project_id, Task.deleted_at.is_(None)).order_by(Task.ls_id)
    return list(session.scalars(statement))


def change_template(project: Project, label: str | None, text: str, *, negative: bool = False) -> dict[str, str]:
    """The project's prompts with another template of a label; of all labels (None), then without their own.

    An empty text takes it away. Raises PromptError for an unknown label, and when two labels would be asked alike;
    TemplateError for a text that is no template.
    """
    labels = list(project.control["labels"])
    if label is not None and label not in labels:
        raise PromptError(f"there is no label {label!r}; the labels are: {', '.join(labels)}")
    head = NEGATIVE if negative else ""
    prompts = dict(project.prompts)
    if label is None:
        prompts = {key: kept for key, kept in prompts.items() if key.startswith(NEGATIVE) != negative}
    key = head + (label or ALL)
    if text.strip():
        parse_template(text)
        prompts[key] = text.strip()
    else:
        prompts.pop(key, None)
    seen: dict[str, str] = {}
    for each, prompt in default_prompts(labels, prompts).items():
        twin = seen.setdefault(prompt.casefold(), each)
        if twin != each:
            raise PromptError(
                f"labels {twin!r} and {each!r} would both be asked by {prompt!r}; the model tells labels apart by "
                "their prompts alone: use {label} in the template, or set them one by one"
            )
    return prompts


def store_templates(session: Session, project: Project, prompts: dict[str, str]) -> None:
    """Keep the project's prompts, within the caller's transaction."""
    row = session.get_one(Project, project.id)
    before, row.prompts = row.prompts, prompts
    record(session, "prompts.changed", project_id=row.id, data={"before": before, "after": prompts})


def store_sheet_prompts(session: Session, project: Project, prompts: Mapping[int, Mapping[str, str]]) -> None:
    """Add a sheet's prompts (task in the pool -> label -> text) to a project, within the caller's transaction.

    Another sheet makes another prediction version, so that what Label Studio holds is replaced as a whole.
    """
    row = session.get_one(Project, project.id)
    for number, texts in prompts.items():
        task = session.get_one(Task, number)
        # A new mapping: a change within the old one would not be seen.
        task.sheet_prompts = {**(task.sheet_prompts or {}), **texts}
        set_prompts(session, row, task)
    session.flush()
    note_sheet(session, row)


def too_long(texts: Iterable[str], spec: BackboneSpec, vocabulary: Path) -> list[str]:
    """Warnings for prompts that the backbone cannot read to their end. `vocabulary`: the folder of a BERT's vocab.txt.

    Loads torch only when one is long enough to be counted. Raises BackboneError when a vocabulary is missing.
    """
    from maskloop_learner.prompts.length import check_length

    long = [text for text in dict.fromkeys(texts) if len(text) // CHARACTERS_A_TOKEN + 2 > spec.context]
    if not long:
        return []
    count = count_tokens(spec, vocabulary)
    told = (check_length(text, context=spec.context, tokens_of=count) for text in long)
    return [warning for warning in told if warning is not None]


def count_tokens(spec: BackboneSpec, vocabulary: Path) -> Callable[[str], int]:
    """How many tokens a text has for a backbone, with those at its start and end. Raises BackboneError."""
    from open_clip.tokenizer import SimpleTokenizer

    from maskloop_learner.model.construction import build_tokenizer

    if spec.text == "clip":
        tokenizer = SimpleTokenizer()
        return lambda text: len(tokenizer.encode(text)) + 2
    wide = replace(spec, clip={**spec.clip, "text_cfg": {**spec.clip["text_cfg"], "context_length": 4096}})
    words = build_tokenizer(wide, vocabulary)
    return lambda text: int((words([text]) != 0).sum())
