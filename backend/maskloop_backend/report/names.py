"""Who is named in a report, and how a report names nobody."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from maskloop_learner.pool.schema import Batch, Champion, Event, Label, Task

NOT_PEOPLE = re.compile(r"round \d+|sync|retention|\w+ command|")
"""What `by` says where a programme acted."""
SHORTEST = 3
"""Letters of a name that is looked for in sentences: shorter ones are parts of words and figures."""
SOMEBODY = "a person"
DEEP = 2000
"""Events that are looked through for names, the newest."""


@dataclass(frozen=True)
class Names:
    """What each person is called. Empty: as they are."""

    called: Mapping[str, str] = field(default_factory=dict)

    def of(self, annotator: str) -> str:
        """What an annotator is called."""
        return self.called.get(annotator, annotator)

    def hide(self, text: str) -> str:
        """A sentence without the names that stand in it."""
        found = [name for name in self.called if len(name) >= SHORTEST and not name.isdigit()]
        if not found:
            return text
        # The longest first: one name may be the beginning of another.
        choice = "|".join(re.escape(name) for name in sorted(found, key=len, reverse=True))
        return re.sub(rf"(?<!\w)(?:{choice})(?!\w)", lambda match: self.called[match[0]], text)


def hidden_names(session: Session, project_id: int) -> Names:
    """Annotators by the order of their first labels, and whoever else acted in the project."""
    first = (
        select(Label.author)
        .join(Task, Task.id == Label.task_id)
        .where(Task.project_id == project_id, Label.author.is_not(None))
        .group_by(Label.author)
        .order_by(func.min(Label.id))
    )
    annotators = {author: f"annotator {n}" for n, author in enumerate(session.scalars(first), 1) if author}
    return Names(dict.fromkeys(_actors(session, project_id), SOMEBODY) | annotators)


def _actors(session: Session, project_id: int) -> Iterable[str]:
    found = set(session.scalars(select(Batch.created_by).where(Batch.project_id == project_id).distinct()))
    found.update(session.scalars(select(Champion.changed_by).where(Champion.project_id == project_id)))
    data = select(Event.data).where(Event.project_id == project_id).order_by(Event.id.desc()).limit(DEEP)
    found.update(str(each.get("by", "")) for each in session.scalars(data))
    return [name for name in found if not NOT_PEOPLE.fullmatch(name)]
