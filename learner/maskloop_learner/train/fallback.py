"""A champion whose weights are lost or altered is replaced by the last one that is whole."""

import logging

from sqlalchemy.orm import Session

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, PredictionVersion, Project
from maskloop_learner.settings import Settings
from maskloop_learner.train.registry import ChampionConflict, ModelUnusable, former_champions, promote
from maskloop_learner.train.verification import blob_fault, layout_fault, note_fault

log = logging.getLogger(__name__)

BY = "verification"


def look_after(pool: Pool, project_id: int, settings: Settings, *, thorough: bool = True) -> bool:
    """See that the project's champion can be loaded; where its weights are broken the last champion that is whole
    serves again. Returns whether there is a champion that is whole.

    Not `thorough`: the bytes are read only when the file is missing or was found broken before. Safe to repeat, by
    any number of processes. Raises StoreDown or OSError when the store cannot be reached.
    """
    with pool.read() as session:
        champion = session.get(Champion, project_id)
        model = session.get_one(Model, champion.model_id) if champion is not None else None
    if champion is None or model is None:
        return False
    if not thorough and model.fault is None and pool.store.exists("weights", model.weights_digest):
        return True
    fault = blob_fault(pool.store, "weights", model.weights_digest)
    if note_fault(pool, model.id, fault):
        log.log(logging.ERROR if fault else logging.INFO, "model %d: %s", model.id, fault or "it is whole again")
    return fault is None or _replace(pool, project_id, settings, broken=model.id, fence=champion.fence)


def version_fault(session: Session, version_id: str) -> str | None:
    """Why the model of a prediction version cannot be loaded, as far as is known; None when nothing is."""
    version = session.get(PredictionVersion, version_id)
    model = session.get(Model, version.model_id) if version is not None else None
    if model is None:
        return None
    return model.fault or (f"model {model.id} was pruned" if model.pruned_at is not None else None)


def _replace(pool: Pool, project_id: int, settings: Settings, *, broken: int, fence: int) -> bool:
    with pool.read() as session:
        earlier = [session.get_one(Model, number) for number in former_champions(session, project_id)]
    for model in (each for each in earlier if each.pruned_at is None):
        fault = blob_fault(pool.store, "weights", model.weights_digest)
        news = note_fault(pool, model.id, fault)
        if said := fault or layout_fault(pool.store, model):
            log.log(logging.WARNING if news else logging.DEBUG, "model %d cannot stand in: %s", model.id, said)
            continue
        try:
            with pool.write() as session:
                project = session.get_one(Project, project_id)
                reason = f"the weights of model {broken} are broken"
                # Not pinned: a training that is under way may well replace it.
                version = promote(session, project, model.id, settings, fence=fence, by=BY, reason=reason, pinned=False)
        except ChampionConflict as conflict:
            log.info("%s: somebody else saw to it", conflict)
            return True
        except ModelUnusable as error:
            log.warning("model %d cannot stand in: %s", model.id, error)
            continue
        log.error("model %d is broken: model %d serves again as %s", broken, model.id, version)
        return True
    log.debug("project %d: no earlier model is whole", project_id)
    return False
