"""An image of a batch as a page shows it: the addresses of its pictures and of its task."""

from collections.abc import Iterable
from dataclasses import dataclass

from maskloop_backend.overview.batches import Entry
from maskloop_backend.web.dashboard.cards import SMALL, Layers, make_layers, picture_url, task_url
from maskloop_learner.pool.schema import Project


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One line of a batch."""

    entry: Entry
    picture: str | None
    layers: Layers
    url: str
    """Of the task in Label Studio."""


def shoot(project: Project, entries: Iterable[Entry]) -> list[Shot]:
    """The entries with their addresses."""
    return [
        Shot(
            entry=entry,
            picture=picture_url(entry.image.digest, SMALL) if entry.image is not None else None,
            layers=make_layers(entry.prediction, entry.scores, SMALL),
            url=task_url(project, entry.member.ls_id),
        )
        for entry in entries
    ]
