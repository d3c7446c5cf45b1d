"""The order in which Label Studio serves a project's tasks, as the pool knows it: what everybody is shown."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from maskloop_learner.pool.queries import in_open_batch, open_places, ranking, standing

SERVING = "serving"
"""The name of this order, beside those of the scores."""


@dataclass(frozen=True)
class Served:
    """A task that is to be labelled, at its place."""

    task_id: int
    ls_id: int
    url: str
    uncertainty: float | None
    """0..1; None for a task of the open batch that is not ranked yet."""
    place: int | None = None
    """In the open batch, from 1; None outside."""


def serving_order(session: Session, project_id: int, version_id: str | None) -> list[Served]:
    """The open batch's tasks that nobody has labelled, in its order, then all others as in `queries.ranking`.

    Of a task with several images the most uncertain one is named. Tasks outside the batch that are not ranked yet are
    not in it: Label Studio serves them last, by lot. `version_id` None, before the first model: the batch alone.
    """
    places = open_places(session, project_id)
    first: dict[int, Served] = {}
    if places:
        rows = session.execute(standing(project_id, version_id).where(in_open_batch(project_id)))
        for task, ls_id, url, uncertainty, _ in rows:
            first.setdefault(ls_id, Served(task, ls_id, url, uncertainty, places[ls_id]))
    rest = ranking(session, project_id, version_id) if version_id is not None else []
    return [
        *sorted(first.values(), key=lambda row: row.place or 0),
        *(Served(row.task_id, row.ls_id, row.url, row.uncertainty) for row in rest if row.ls_id not in places),
    ]
