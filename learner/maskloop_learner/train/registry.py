"""Which model serves: champions change by compare-and-set on a fence, inside the caller's transaction."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from maskloop_learner.pool.events import record
from maskloop_learner.pool.schema import Champion, Model, PredictionVersion, Project, utcnow
from maskloop_learner.predict.version import VersionConfig, prediction_version
from maskloop_learner.prompts.rules import default_prompts
from maskloop_learner.settings import Settings

METHOD = "monte-carlo"
"""Of the masks that people see: the published sampling."""


class ChampionConflict(RuntimeError):
    """Somebody else changed the champion since it was looked at."""


class NoPreviousModel(ValueError):
    """There is nothing to roll back to."""


def version_config(project: Project, model: Model, settings: Settings) -> VersionConfig:
    """All that determines the masks of `model` with the project's prompts and the settings of today."""
    known = [label for label in model.labels if label in project.control.get("labels", [])]
    prompts = default_prompts(known, project.prompts)
    found = VersionConfig(
        project=project.id,
        weights=model.weights_digest,
        backbone=model.backbone,
        prompts=prompts,
        threshold=settings.threshold,
        min_speck_area=settings.min_speck_area,
        max_hole_area=settings.max_hole_area,
        method=METHOD,
        samples=settings.samples,
        precision=settings.precision,
        temperature=float(model.config.get("temperature", 1.0)),
    )
    # "*" is the template of all labels; rules for other labels than the model's change none of its masks.
    templates = {key: text for key, text in project.prompts.items() if key == "*" or prompts.get(key, text) != text}
    if templates:
        found["templates"] = templates
    if project.sheet_digest:
        found["sheet"] = project.sheet_digest
    if revision := project.control.get("revision"):
        found["tags"] = int(revision)
    ranking = model.config.get("ranking")
    if settings.cheap_ranking and ranking is not None and ranking["of_samples"] == settings.samples:
        found["rank_method"], found["rank_samples"] = ranking["method"], ranking["samples"]
    return found


def ensure_version(session: Session, project: Project, model: Model, settings: Settings) -> str:
    """The id of that prediction version; it is added to the pool when it is new."""
    config = version_config(project, model, settings)
    version = prediction_version(config)
    if session.get(PredictionVersion, version) is None:
        session.add(PredictionVersion(id=version, project_id=project.id, model_id=model.id, config=dict(config)))
        session.flush()
    return version


def set_champion(
    session: Session, *, project_id: int, model_id: int, version_id: str, fence: int, by: str, pinned: bool = False
) -> int:
    """Make a model the champion if the fence still is `fence` (0: there was none); return the new fence.

    Raises ChampionConflict when it is not: the caller's decision was about another champion.
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
        previous = None
    else:
        previous = current.model_id
        changed = session.execute(
            update(Champion)
            .where(Champion.project_id == project_id, Champion.fence == fence)
            .values(
                model_id=model_id,
                version_id=version_id,
                previous_model_id=previous,
                fence=fence + 1,
                pinned=pinned,
                changed_at=utcnow(),
                changed_by=by,
            )
        )
        if changed.rowcount != 1:  # type: ignore[attr-defined]
            raise ChampionConflict(f"the champion of project {project_id} changed: fence is no longer {fence}")
        session.expire(current)
    record(
        session,
        "champion.changed",
        project_id=project_id,
        subject=version_id,
        data={"model": model_id, "previous": previous, "fence": fence + 1, "by": by, "pinned": pinned},
    )
    session.flush()
    return fence + 1


def roll_back(session: Session, project: Project, settings: Settings, *, by: str) -> str:
    """Serve the previous champion again, pinned until new labels arrive; return its prediction version."""
    current = session.get(Champion, project.id)
    if current is None or current.previous_model_id is None:
        raise NoPreviousModel(f"project {project.id} has no earlier model to roll back to")
    model = session.get_one(Model, current.previous_model_id)
    version = ensure_version(session, project, model, settings)
    set_champion(
        session, project_id=project.id, model_id=model.id, version_id=version, fence=current.fence, by=by, pinned=True
    )
    return version


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
