"""A project's rule of grouping: what it makes of the images in the pool, and its change."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_backend.readiness import count
from maskloop_learner.pool.events import record
from maskloop_learner.pool.groups import check_blind_share, group_of, make_grouping, name_of
from maskloop_learner.pool.schema import Project, Task

EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a person wants changed; None leaves it as it is, "" takes a rule away."""

    field: str | None = None
    pattern: str | None = None
    source: str | None = None
    blind_share: float | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in asdict(self).values())


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a rule makes of the images in the pool."""

    rule: dict[str, Any]
    blind_share: float
    images: int
    groups: int
    """Images without a key count as one each."""
    alone: int
    """Images without a key."""
    largest: str
    largest_images: int
    blind: int
    """Images of tasks that are blind so far."""
    examples: dict[str, list[str]]
    """Group -> names of some of its images."""

    def sentences(self) -> list[str]:
        """The same in words, a warning last."""
        rule = (
            " and ".join(f"{name} {value!r}" for name, value in self.rule.items()) or "no rule: each image for itself"
        )
        said = [f"Groups by {rule}: {count(self.images, 'image')} in {count(self.groups, 'group')}"]
        said += [f"{key}: {', '.join(names)}" for key, names in self.examples.items()]
        if self.blind_share or self.blind:
            said.append(f"Blind share {self.blind_share:g}: {count(self.blind, 'image')} so far")
        return said

    def warning(self) -> str | None:
        """What looks wrong with the rule."""
        grouped = "field" in self.rule or "pattern" in self.rule
        if grouped and self.images and self.alone == self.images:
            return "The rule finds a key in no image: each is a group of its own"
        if 2 * self.largest_images > self.images > 1:
            return (
                f"Group {self.largest!r} has {self.largest_images} of {self.images} images: "
                "one side of the split will be large, or validation will be of few groups"
            )
        if grouped and self.alone:
            return f"{count(self.alone, 'image')} without a key, each a group of its own"
        return None


def apply(project: Project, asked: Asked) -> None:
    """Change a project's rule. Raises GroupingError for what cannot be; the tasks follow at the next look of sync."""
    if asked.blind_share is not None:
        project.blind_share = check_blind_share(asked.blind_share)
    old = project.grouping or {}
    field, pattern = asked.field, asked.pattern
    if field is None and pattern is None:
        field, pattern = old.get("field"), old.get("pattern")
    source = old.get("source") if asked.source is None else asked.source
    project.grouping = make_grouping(field=field, pattern=pattern, source=source)


def note_change(session: Session, project: Project) -> None:
    """Append the change to the event log."""
    data = {"rule": project.grouping, "blind_share": project.blind_share}
    record(session, "grouping.changed", project_id=project.id, data=data)


def look(session: Session, project: Project) -> Found:
    """What the project's rule makes of its images now, whether or not sync has followed it."""
    statement = select(Task.data, Task.url, Task.blind, Task.ls_id)
    rows = session.execute(statement.where(Task.project_id == project.id, Task.deleted_at.is_(None)).order_by(Task.id))
    sizes: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    alone = blind = 0
    for data, url, is_blind, ls_id in rows:
        blind += is_blind
        key = group_of(project.grouping or {}, data=data or {}, url=url or "")
        if not key:
            alone += 1
            continue
        sizes[key] += 1
        if len(examples.setdefault(key, [])) < EXAMPLES:
            examples[key].append(name_of(data or {}, url) or f"task {ls_id}")
    largest, number = max(sizes.items(), key=lambda pair: (pair[1], pair[0]), default=("", min(alone, 1)))
    return Found(
        rule=dict(project.grouping or {}),
        blind_share=project.blind_share or 0.0,
        images=sizes.total() + alone,
        groups=len(sizes) + alone,
        alone=alone,
        largest=largest,
        largest_images=number,
        blind=blind,
        examples={key: examples[key] for key in sorted(examples)[:EXAMPLES]},
    )
