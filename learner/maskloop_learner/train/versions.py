"""Prediction versions of a project's models: which masks a model draws with the prompts and settings of today."""

from sqlalchemy.orm import Session

from maskloop_learner.pool.schema import Model, PredictionVersion, Project
from maskloop_learner.predict.version import VersionConfig, prediction_version
from maskloop_learner.prompts.rules import default_prompts
from maskloop_learner.settings import Settings

METHOD = "monte-carlo"
"""Of the masks that people see: the published sampling."""


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
