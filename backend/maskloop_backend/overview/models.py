"""A project's models: how good each is, how sure that is, what the gate said, and who let it serve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from maskloop_learner.pool.schema import Champion, Event, Model, Project, Round, Snapshot
from maskloop_learner.train.dossier import decision_of, standing

MOST = 200
"""Models that are read at most, the newest."""
MARKS = {
    "champion": "serving",
    "champion, pinned": "serving, pinned",
    "previous": "served before",
    "shadow": "in shadow",
    "broken": "damaged",
    "pruned": "weights removed",
}
"""What `standing` says, as a page says it."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A mean Dice over validation images, 0..1, with its interval where one was kept."""

    mean: float
    low: float | None = None
    high: float | None = None
    images: int | None = None


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A moment at which a model became the champion."""

    at: datetime
    by: str
    reason: str
    pinned: bool


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Pixels of like probability: what was said of them, and how many were in truth foreground."""

    probability: float
    frequency: float
    pixels: int


@dataclass(frozen=True, kw_only=True)
class Version:
    """One model."""

    model: int
    made_at: datetime
    made_by: str
    """`round 3`, or where it was imported from."""
    cause: str | None
    """What started its round: labels, cron, button, cli or demo."""
    labels: int | None
    """Labels in its snapshot, those that are kept for validation included; None where it has none."""
    dice: Figure | None
    by_label: dict[str, Figure]
    ece: float | None
    """Expected calibration error, mean over labels, 0..1."""
    temperature: float | None
    reliability: dict[str, tuple[Bin, ...]]
    """Label -> bins of equally many pixels, the least probable first; empty where none were kept."""
    loss: tuple[tuple[int, float], ...]
    """(step, mean loss since the pair before) of its training; empty where none was kept."""
    parent: int | None
    """The champion when it was made."""
    lead: float | None
    """Its Dice less its parent's, both on the images on which the gate compared them; None where it did not."""
    outcome: str | None
    """promoted, shadow or rejected; None without a round."""
    reason: str
    """The gate's words."""
    decided_by: str
    """Who or what decided."""
    marks: tuple[str, ...]
    """What it is at present: serving, served before, in shadow, rejected, damaged, weights removed."""
    fault: str | None
    promotions: tuple[Promotion, ...]
    """The newest last."""

    @property
    def serving(self) -> bool:
        """Whether it is the champion."""
        return bool({"serving", "serving, pinned"} & set(self.marks))


@dataclass(frozen=True, kw_only=True)
class Models:
    """All of them, the newest first."""

    versions: tuple[Version, ...]
    older: int
    """How many more there are that were not read."""
    version: str | None
    """The prediction version that should be served."""
    served: str | None
    """The one that Label Studio serves."""
    fence: int
    """Grows with every change of the champion; 0 without one."""
    pinned: bool
    previous: int | None
    """The model to which a rollback goes."""

    @property
    def champion(self) -> Version | None:
        """The model that serves; None without one, or when it is among the older ones."""
        return next((each for each in self.versions if each.serving), None)


def read_models(session: Session, project: Project) -> Models:
    """The project's newest models with everything that is known of them without opening a file."""
    champion = session.get(Champion, project.id)
    statement = (
        select(Model, Round, func.json_array_length(Snapshot.label_ids))
        .outerjoin(Round, Round.model_id == Model.id)
        .outerjoin(Snapshot, Snapshot.id == Model.snapshot_id)
        .where(Model.project_id == project.id)
        .order_by(Model.id.desc())
    )
    rows = session.execute(statement.limit(MOST)).all()
    count = session.scalar(select(func.count(Model.id)).where(Model.project_id == project.id)) or 0
    promotions = read_promotions(session, project.id)
    return Models(
        versions=tuple(
            make_version(model, row, labels, champion, promotions.get(model.id, ())) for model, row, labels in rows
        ),
        older=count - len(rows),
        version=champion.version_id if champion else None,
        served=project.served_version,
        fence=champion.fence if champion else 0,
        pinned=champion.pinned if champion else False,
        previous=champion.previous_model_id if champion else None,
    )


def make_version(
    model: Model, row: Round | None, labels: int | None, champion: Champion | None, promotions: Sequence[Promotion]
) -> Version:
    """What a model's row, its round, and the number of labels in its snapshot say."""
    metrics, decision = model.metrics, decision_of(model, row)
    errors = [float(each["ece"]) for each in metrics.get("calibration", {}).values()]
    overall, by_label = read_dice(metrics)
    marks = [MARKS[name] for name in standing(model, champion)]
    if row is not None and row.state == "rejected":
        marks.append("rejected")
    return Version(
        model=model.id,
        made_at=model.created_at,
        made_by=f"round {row.id}" if row else origin_of(model),
        cause=row.cause if row else None,
        labels=labels,
        dice=overall,
        by_label=by_label,
        ece=fmean(errors) if errors else None,
        temperature=metrics.get("temperature"),
        reliability={
            label: tuple(Bin(probability=p, frequency=f, pixels=n) for p, f, n in bins)
            for label, bins in metrics.get("reliability", {}).items()
        },
        loss=tuple((int(step), float(loss)) for step, loss in metrics.get("loss", ())),
        parent=model.parent_id,
        lead=read_lead(decision),
        outcome=row.state if row else None,
        reason=(row.reason if row else None) or metrics.get("decision") or "",
        decided_by=str((decision.get("by") or {}).get("who", "")),
        marks=tuple(marks),
        fault=model.fault,
        promotions=tuple(promotions),
    )


def read_dice(metrics: Mapping[str, Any]) -> tuple[Figure | None, dict[str, Figure]]:
    """Overall and by label, out of a model's metrics. Earlier releases kept means of labels only, without interval."""
    if kept := metrics.get("dice"):
        return make_figure(kept["overall"]), {label: make_figure(each) for label, each in kept["labels"].items()}
    means = {label: Figure(mean=side["challenger"]) for label, side in metrics.get("validation", {}).items()}
    return Figure(mean=fmean(each.mean for each in means.values())) if means else None, means


def read_lead(decision: Mapping[str, Any]) -> float | None:
    """How far the challenger was ahead, out of what the gate left."""
    ours, theirs = decision.get("challenger"), decision.get("champion")
    return ours - theirs if ours is not None and theirs is not None else None


def make_figure(kept: Mapping[str, Any]) -> Figure:
    """What `train.confidence.Confidence.to_dict` gave."""
    return Figure(mean=kept["mean"], low=kept["low"], high=kept["high"], images=kept["images"])


def origin_of(model: Model) -> str:
    """Where a model that no round has made comes from, in words."""
    source = (model.config.get("imported") or {}).get("source")
    return f"import of {source}" if source else "import"


def read_promotions(session: Session, project_id: int) -> dict[int, list[Promotion]]:
    """Model -> when it became the champion, by whom and why, the newest last."""
    statement = select(Event.at, Event.data).where(Event.project_id == project_id, Event.kind == "champion.changed")
    found: dict[int, list[Promotion]] = {}
    for at, data in session.execute(statement.order_by(Event.id)):
        promotion = Promotion(at=at, by=data["by"], reason=data.get("reason", ""), pinned=data["pinned"])
        found.setdefault(data["model"], []).append(promotion)
    return found
