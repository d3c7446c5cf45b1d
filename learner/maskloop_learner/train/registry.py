"""Which model serves: champions change by compare-and-set on a fence, inside the caller's transaction."""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from maskloop_learner.pool.events import record
from maskloop_learner.pool.schema import Champion, Event, Model, Project, Round, utcnow
from maskloop_learner.settings import Settings
from maskloop_learner.train.versions import METHOD, ensure_version, version_config

__all__ = [
    "METHOD",
    "ChampionConflict",
    "ModelUnusable",
    "NoPreviousModel",
    "ensure_version",
    "find_model",
    "former_champions",
    "promote",
    "refresh_version",
    "release",
    "roll_back",
    "set_champion",
    "settle_shadow",
    "version_config",
]


class ChampionConflict(RuntimeError):
    """Somebody else changed the champion since it was looked at."""


class NoPreviousModel(ValueError):
    """There is nothing to roll back to."""


class ModelUnusable(ValueError):
    """A model that cannot serve; the message says why and what to do."""


def set_champion(
    session: Session,
    *,
    project_id: int,
    model_id: int,
    version_id: str,
    fence: int,
    by: str,
    pinned: bool = False,
    reason: str = "",
) -> int:
    """Make a model the champion if the fence still is `fence` (0: there was none); return the new fence.

    A model in shadow has waited beside the champion that goes: it is let go with it. Raises ChampionConflict when
    the fence is another: the caller's decision was about another champion.
    """
    current = session.get(Champion, project_id)
    if current is None:
        if fence != 0:
            raise ChampionConflict(f"project {project_id} has no champion, but fence {fence} was expected")
        session.add(
            Champion(
                project_id=project_id, model_id=model_id, version_id=version_id, fence=1, pinned=pinned, changed_by=by
            )
        )
        previous = shadow = None
    else:
        previous, shadow = current.model_id, current.challenger_id
        changed = session.execute(
            update(Champion)
            .where(Champion.project_id == project_id, Champion.fence == fence)
            .values(
                model_id=model_id,
                version_id=version_id,
                previous_model_id=previous if previous != model_id else Champion.previous_model_id,
                fence=fence + 1,
                pinned=pinned,
                challenger_id=None,
                challenger_since=None,
                changed_at=utcnow(),
                changed_by=by,
            )
        )
        if changed.rowcount != 1:  # type: ignore[attr-defined]
            raise ChampionConflict(
                f"the champion of project {project_id} changed meanwhile: its fence is no longer {fence}; "
                "look at `maskloop models` and decide again"
            )
        session.expire(current)
    data = {"model": model_id, "previous": previous, "fence": fence + 1, "by": by, "pinned": pinned}
    if reason:
        data["reason"] = reason
    record(session, "champion.changed", project_id=project_id, subject=version_id, data=data)
    if shadow is not None:
        settle_shadow(session, project_id, shadow, promoted=shadow == model_id, by=by)
    session.flush()
    return fence + 1


def find_model(session: Session, project_id: int, model_id: int, *, hold: bool = False) -> Model:
    """A model of the project. `hold`: nobody prunes it before this transaction ends.

    Raises ModelUnusable when the project has no such model.
    """
    statement = select(Model).where(Model.id == model_id, Model.project_id == project_id)
    model = session.scalar(statement.with_for_update() if hold else statement)
    if model is None:
        raise ModelUnusable(f"this project has no model {model_id}; `maskloop models` lists those it has")
    return model


def promote(
    session: Session,
    project: Project,
    model_id: int,
    settings: Settings,
    *,
    fence: int,
    by: str,
    reason: str = "",
    pinned: bool = True,
) -> str:
    """Let the project serve one of its models; return the prediction version.

    Pinned, a training that is under way does not undo it: only one on new labels does. Raises ModelUnusable for a
    model of another project, a pruned one and one whose weights are known to be broken; ChampionConflict as
    `set_champion`.
    """
    model = find_model(session, project.id, model_id, hold=True)
    if model.pruned_at is not None:
        raise ModelUnusable(
            f"model {model_id} was pruned on {model.pruned_at:%Y-%m-%d}: its weights are gone; "
            "bring them back with `maskloop models import` from an export, or choose another model"
        )
    if model.fault is not None:
        raise ModelUnusable(f"model {model_id} cannot serve: {model.fault}; see `maskloop models verify {model_id}`")
    if not set(model.labels) & set(project.control.get("labels", [])):
        raise ModelUnusable(
            f"model {model_id} knows only {model.labels}, none of which the label config has; choose another model"
        )
    version = ensure_version(session, project, model, settings)
    set_champion(
        session,
        project_id=project.id,
        model_id=model.id,
        version_id=version,
        fence=fence,
        by=by,
        pinned=pinned,
        reason=reason,
    )
    return version


def roll_back(
    session: Session, project: Project, settings: Settings, *, by: str, to: int | None = None, reason: str = ""
) -> str:
    """Serve an earlier champion again (None: the previous one), pinned until new labels; return its version.

    Raises NoPreviousModel when there is none, ModelUnusable when the model never served or cannot.
    """
    current = session.get(Champion, project.id)
    earlier = former_champions(session, project.id)
    if current is None or (to is None and current.previous_model_id is None):
        raise NoPreviousModel(f"project {project.ls_id} has no earlier model to roll back to")
    chosen = to if to is not None else current.previous_model_id
    if to is not None:
        model = find_model(session, project.id, to)
        if to == current.model_id:
            raise ModelUnusable(f"model {to} is the champion already")
        if model.id not in earlier:
            served = ", ".join(map(str, earlier)) or "none"
            raise ModelUnusable(
                f"model {to} never served (earlier champions: {served}); to serve it all the same: "
                f"maskloop models promote {to}"
            )
    assert chosen is not None
    return promote(session, project, chosen, settings, fence=current.fence, by=by, reason=reason)


def release(session: Session, project_id: int, *, by: str) -> bool:
    """Let trainings that are under way replace the champion again; return whether it was pinned."""
    found = session.execute(
        update(Champion).where(Champion.project_id == project_id, Champion.pinned).values(pinned=False)
    )
    session.expire_all()
    if found.rowcount != 1:  # type: ignore[attr-defined]
        return False
    record(session, "champion.released", project_id=project_id, data={"by": by})
    return True


def former_champions(session: Session, project_id: int) -> list[int]:
    """Models that were champion before the one of now, the last one first."""
    statement = select(Event.data).where(Event.project_id == project_id, Event.kind == "champion.changed")
    current = session.scalar(select(Champion.model_id).where(Champion.project_id == project_id))
    rows = session.scalars(statement.order_by(Event.id.desc())).all()
    found = dict.fromkeys(int(number) for data in rows for number in (data["model"], data["previous"]) if number)
    return [number for number in found if number != current]


def refresh_version(session: Session, project: Project, settings: Settings) -> str | None:
    """Follow a change of prompts or settings: the champion's model under a new prediction version."""
    champion = session.get(Champion, project.id)
    if champion is None:
        return None
    version = ensure_version(session, project, session.get_one(Model, champion.model_id), settings)
    if version != champion.version_id:
        record(session, "version.changed", project_id=project.id, subject=version, data={"before": champion.version_id})
        champion.version_id = version
        session.flush()
    return version


def settle_shadow(session: Session, project_id: int, model_id: int, *, promoted: bool, by: str) -> None:
    """Write down that a model in shadow waits no more, and what its round has come to."""
    record(session, "shadow.ended", project_id=project_id, subject=str(model_id), data={"by": by})
    row = session.scalar(select(Round).where(Round.model_id == model_id, Round.state == "shadow"))
    if row is None:
        return
    row.state = "promoted" if promoted else "rejected"
    said = f"promoted by {by}" if promoted else f"another model took its place by {by}"
    row.reason = f"{row.reason}; {said}" if row.reason else said
    data = {"reason": row.reason, "model": model_id}
    record(session, f"round.{row.state}", project_id=row.project_id, subject=str(row.id), data=data)
