"""The images that Label Studio serves next: the open batch in its order, then the others by their uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_backend.web.dashboard.boards import Board
from maskloop_backend.web.dashboard.cards import Card, make_cards
from maskloop_backend.web.dashboard.listing import Found, Listing
from maskloop_backend.web.dashboard.wishes import Wish
from maskloop_learner.pool.batches import find_open
from maskloop_learner.pool.members import members
from maskloop_learner.pool.queries import answers, current_version, scores_of
from maskloop_learner.pool.schema import Prediction, Project, Task

SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Coming:
    """An image that comes next, and what its pictures are made of."""

    place: int
    """From 1."""
    card: Card
    blind: bool
    """It is annotated without a prediction shown, and none is shown here."""
    image: str | None
    """Digest of its bytes."""
    masks: dict[str, str]
    """Label -> digest of its predicted mask."""
    maps: tuple[str, ...]
    """Digests of its maps of uncertainty, one a label."""


def find_coming(session: Session, project: Project, *, limit: int = SHOWN) -> list[Coming]:
    """At most `limit` images, the next one first. Without a model only an open batch has an order."""
    version = current_version(session, project.id)
    batch = find_open(session, project.id)
    waiting = [row for row in members(session, batch) if row.state == "waiting"] if batch is not None else []
    first = [Found(row.task_id, row.ls_id, 0) for row in waiting[:limit]]
    taken = {row.ls_id for row in waiting}
    rows = [*first, *_by_uncertainty(session, project, version, taken, limit)][:limit]
    cards = make_cards(session, project, version, rows, Wish())
    return [_describe(session, version, place, card) for place, card in enumerate(cards, 1)]


def _by_uncertainty(
    session: Session, project: Project, version: str | None, taken: set[int], limit: int
) -> Sequence[Found]:
    if version is None:
        return []
    listing = Listing(session, project, version, Board(version))
    # Members of the batch are in this list too: as many more are read, and these left out.
    rows, _ = listing.page(Wish(limit=limit + len(taken)))
    return [row for row in rows if row.ls_id not in taken]


def _describe(session: Session, version: str | None, place: int, card: Card) -> Coming:
    task = session.get_one(Task, card.id)
    asked = select(Prediction.id).join(Task, answers(Prediction, version or "")).where(Task.id == card.id)
    prediction = session.scalar(asked)
    scores = scores_of(session, [prediction])[prediction] if prediction is not None and not card.error else []
    return Coming(
        place=place,
        card=card,
        blind=task.blind,
        image=task.image_digest,
        masks={} if task.blind else {score.label: score.mask_digest for score in scores},
        maps=() if task.blind else tuple(score.map_digest for score in scores if score.map_digest is not None),
    )
