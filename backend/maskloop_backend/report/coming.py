"""The images that Label Studio serves next: the open batch in its order, then the others by their uncertainty."""

from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_backend.web.dashboard.boards import Boards
from maskloop_backend.web.dashboard.cards import Card, make_cards
from maskloop_backend.web.dashboard.listing import Listing
from maskloop_backend.web.dashboard.wishes import Wish
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


def find_coming(session: Session, project: Project, boards: Boards, *, limit: int = SHOWN) -> list[Coming]:
    """At most `limit` images, the next one first. Without a model only an open batch has an order."""
    version = current_version(session, project.id)
    wish = Wish(limit=limit)
    listing = Listing(session, project, version, boards.of(version) if version is not None else None)
    rows, _ = listing.page(wish)
    cards = make_cards(session, project, version, rows, wish)
    return [_describe(session, version, place, card) for place, card in enumerate(cards, 1)]


def _describe(session: Session, version: str | None, place: int, card: Card) -> Coming:
    task = session.get_one(Task, card.id)
    asked = select(Prediction.id).join(Task, answers(Prediction, version or "")).where(Task.id == card.id)
    prediction = session.scalar(asked)
    scores = scores_of(session, [prediction])[prediction] if prediction is not None and not card.error else []
    return Coming(
        place=place,
        card=replace(card, uncertainty=None, value=None, labels={}, reason=None) if task.blind else card,
        blind=task.blind,
        image=task.image_digest,
        masks={} if task.blind else {score.label: score.mask_digest for score in scores},
        maps=() if task.blind else tuple(score.map_digest for score in scores if score.map_digest is not None),
    )
