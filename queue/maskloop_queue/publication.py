"""A round's outcome: the model, the decision and, when it passed the gate, the change of the champion."""

import logging
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Label, Project, utcnow
from maskloop_learner.settings import Settings
from maskloop_learner.train.gate import Decision
from maskloop_learner.train.lineage import WARM_FROM
from maskloop_learner.train.manifests import add_model, keep_weights
from maskloop_learner.train.registry import ensure_version, set_champion
from maskloop_learner.train.shadow import begin_shadow
from maskloop_queue.lease import held
from maskloop_queue.plan import Plan

if TYPE_CHECKING:
    from maskloop_learner.train.examination import Examination

log = logging.getLogger(__name__)

STATES = {"promote": "promoted", "shadow": "shadow", "reject": "rejected"}
"""The gate's outcome -> the round's state."""


def publish(
    pool: Pool,
    plan: Plan,
    settings: Settings,
    weights: bytes,
    decision: Decision,
    found: "Examination",
    *,
    fence: int,
    parent: int | None,
    warm_from: int | None = None,
) -> None:
    """Keep the model and what was decided; make it the champion, or its shadow, if the gate said so.

    Does nothing twice.
    """
    kept = keep_weights(pool.store, weights)
    with pool.write() as session:
        row = held(session, plan.round_id, plan.holder)
        if row is None:
            # Another process has the round now, or a person has ended it: publish nothing twice.
            log.info("round %d goes on or has ended elsewhere; this outcome is dropped", plan.round_id)
            return
        decision = _settle(session, plan, decision, fence)
        decision = replace(decision, by={"who": "gate", "round": plan.round_id, "release": release()})
        model = add_model(
            session,
            pool.store,
            project_id=plan.project_id,
            weights=kept,
            labels=plan.manifest["labels"],
            made_by=f"round {plan.round_id}",
            config=_config(settings, found) | ({WARM_FROM: warm_from} if warm_from is not None else {}),
            metrics={
                "validation": decision.figures,
                "decision": decision.reason,
                "gate": decision.to_dict(),
                "loss": row.progress.get("losses", []),
                **found.to_dict(),
            },
            settings=settings,
            snapshot_id=plan.snapshot_id,
            parent_id=parent,
        )
        row.model_id, row.ended_at, row.reason = model.id, utcnow(), decision.reason
        row.state, row.decision = STATES[decision.outcome], decision.to_dict()
        by = f"round {plan.round_id}"
        if decision.outcome == "shadow":
            begin_shadow(session, plan.project_id, model.id, by=by)
        if decision.promote:
            project = session.get_one(Project, plan.project_id)
            serving = ensure_version(session, project, model, settings)
            set_champion(session, project_id=project.id, model_id=model.id, version_id=serving, fence=fence, by=by)
        record(
            session,
            f"round.{row.state}",
            project_id=plan.project_id,
            subject=str(plan.round_id),
            data={"reason": row.reason, "model": model.id, "figures": decision.figures, "gate": row.decision},
        )


def _settle(session: Session, plan: Plan, decision: Decision, fence: int) -> Decision:
    """What is left of the decision after what happened to the champion while this trained."""
    champion = session.get(Champion, plan.project_id)
    if champion is None or decision.outcome == "reject":
        return decision
    if champion.pinned and not _has_new_labels(session, plan, champion):
        said = f"{champion.changed_by} pinned the champion; only labels from then on, or a person, release it"
    elif champion.fence != fence:
        said = f"the champion changed while this trained: fence is no longer {fence}; it was compared with another one"
    else:
        return decision
    return replace(decision, outcome="reject", reason=said)


def _has_new_labels(session: Session, plan: Plan, champion: Champion) -> bool:
    """Whether the snapshot holds a label that came after the champion was pinned."""
    labels = session.scalars(select(Label.id).where(Label.created_at > champion.changed_at))
    return not {item["label_id"] for item in plan.manifest["items"]}.isdisjoint(labels)


def _config(settings: Settings, found: "Examination") -> dict[str, Any]:
    config: dict[str, Any] = {
        "steps": settings.train_steps,
        "batch": settings.train_batch,
        "seed": settings.train_seed,
        "temperature": found.temperature,
    }
    if found.sampling is not None:
        chosen = found.sampling
        config["ranking"] = {"method": chosen.method, "samples": chosen.samples, "of_samples": settings.samples}
    return config


def release() -> str:
    """The release of Maskloop that is at work."""
    try:
        return version("maskloop")
    except PackageNotFoundError:
        return "unknown"
