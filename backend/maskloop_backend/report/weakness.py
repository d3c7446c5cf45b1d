"""Where the model that serves is weak: labels, sizes and sources on its validation images, the weakest first."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_backend.overview.models import Figure, Models
from maskloop_learner.pool.schema import Model, Round
from maskloop_learner.train.dossier import decision_of

KINDS = {
    "label": "label {name}",
    "size": "{name} structures",
    "source": "source {name}",
    "empty": "images with nothing to find",
}
"""Kind of a part -> how it is told."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the validation images."""

    what: str
    dice: Figure
    few: bool
    """Too few images to count at the gate."""


def read_weakness(session: Session, models: Models) -> tuple[Part, ...]:
    """The parts of the champion's validation images, the weakest first; empty without a champion.

    Labels are what its training measured; sizes and sources are what the gate saw when it was let in, so a first
    model, which was compared with none, has labels alone.
    """
    champion = models.champion
    if champion is None:
        return ()
    row = session.scalar(select(Round).where(Round.model_id == champion.model))
    decision = decision_of(session.get_one(Model, champion.model), row)
    parts = [
        Part(what=KINDS["label"].format(name=name), dice=figure, few=False)
        for name, figure in champion.by_label.items()
    ]
    told = champion.by_label
    slices = decision.get("slices", ())
    parts += [_slice(each) for each in slices if not (each["kind"] == "label" and each["name"] in told)]
    return tuple(sorted(parts, key=lambda part: part.dice.mean))


def _slice(each: dict[str, Any]) -> Part:
    what = KINDS[each["kind"]].format(name=each["name"])
    return Part(what=what, dice=Figure(mean=each["challenger"], images=each["images"]), few=not each["counted"])
