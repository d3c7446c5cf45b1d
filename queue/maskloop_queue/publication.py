"""A round's outcome: the model, the decision and, when it passed the gate, the change of the champion."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Project, Round, utcnow
from maskloop_learner.settings import Settings
from maskloop_learner.train.gate import Decision
from maskloop_learner.train.manifests import add_model, keep_weights
from maskloop_learner.train.registry import ChampionConflict, ensure_version, set_champion
from maskloop_queue.plan import Plan

if TYPE_CHECKING:
    from maskloop_learner.train.examination import Examination

log = logging.getLogger(__name__)


def publish(
    pool: Pool,
    plan: Plan,
    settings: Settings,
    weights: bytes,
    decision: Decision,
    found: "Examination | None",
    *,
    fence: int,
    parent: int | None,
) -> None:
    """Keep the model and what was decided; make it the champion if the gate said so. Does nothing twice."""
    kept = keep_weights(pool.store, weights)
    with pool.write() as session:
        row = session.get_one(Round, plan.round_id)
        if row.state != "running":
            # A second execution of the same job, or a person, ended this round first: publish nothing twice.
            log.info("round %d ended elsewhere (%s); this outcome is dropped", plan.round_id, row.state)
            return
        project = session.get_one(Project, plan.project_id)
        champion = session.get(Champion, plan.project_id)
        if decision.promote and champion is not None and champion.pinned and champion.changed_at > row.created_at:
            said = f"{champion.changed_by} pinned the champion while this trained; labels from then on count"
            decision = replace(decision, promote=False, reason=said)
        model = add_model(
            session,
            pool.store,
            project_id=plan.project_id,
            weights=kept,
            labels=plan.manifest["labels"],
            made_by=f"round {plan.round_id}",
            config=_config(settings, found),
            metrics={"validation": decision.figures, "decision": decision.reason, **(found.to_dict() if found else {})},
            settings=settings,
            snapshot_id=plan.snapshot_id,
            parent_id=parent,
        )
        row.model_id, row.ended_at, row.reason = model.id, utcnow(), decision.reason
        row.state = "promoted" if decision.promote else "rejected"
        if decision.promote:
            version = ensure_version(session, project, model, settings)
            try:
                set_champion(
                    session,
                    project_id=project.id,
                    model_id=model.id,
                    version_id=version,
                    fence=fence,
                    by=f"round {plan.round_id}",
                )
            except ChampionConflict as conflict:
                row.state, row.reason = "rejected", f"{conflict}; it was compared with the champion before that"
        record(
            session,
            f"round.{row.state}",
            project_id=project.id,
            subject=str(plan.round_id),
            data={"reason": row.reason, "model": model.id, "figures": decision.figures},
        )


def _config(settings: Settings, found: "Examination | None") -> dict[str, Any]:
    config: dict[str, Any] = {
        "steps": settings.train_steps,
        "batch": settings.train_batch,
        "seed": settings.train_seed,
        "temperature": found.temperature if found else 1.0,
    }
    if found is not None and found.sampling is not None:
        chosen = found.sampling
        config["ranking"] = {"method": chosen.method, "samples": chosen.samples, "of_samples": settings.samples}
    return config
