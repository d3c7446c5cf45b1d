"""The work of a round: labels in, a challenger out, and the gate's question to it and the champion."""

import logging

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model
from maskloop_learner.settings import Settings
from maskloop_learner.train.gate import decide
from maskloop_queue.challenger import train_challenger
from maskloop_queue.plan import Plan
from maskloop_queue.publication import publish
from maskloop_queue.reporter import Reporter
from maskloop_queue.trials import Trial, load_examples

log = logging.getLogger(__name__)


def train_and_publish(pool: Pool, plan: Plan, settings: Settings, reporter: Reporter) -> None:
    """Train, compare with the champion, examine and publish. Raises TrainingCancelled when it is to end."""
    from maskloop_learner.model.bases import BackboneError
    from maskloop_learner.model.checkpoint import CheckpointError

    weights = train_challenger(pool, plan, settings, reporter)
    validation = load_examples(pool, plan.manifest, "validation")
    trial = Trial(pool=pool, manifest=plan.manifest, settings=settings, tick=reporter.tick)
    predictor = trial.load(weights)
    challenger = trial.validate(predictor, validation)
    with pool.read() as session:
        champion = session.get(Champion, plan.project_id)
        fence = champion.fence if champion else 0
        rival = session.get_one(Model, champion.model_id) if champion else None
    # Champion and challenger are compared on the very same images, in the same order, with the same samples.
    old = None
    if rival is not None and set(plan.manifest["labels"]) <= set(rival.labels):
        rivals_weights = pool.store.get("weights", rival.weights_digest)
        try:
            old = trial.validate(trial.load(rivals_weights), validation)
        except (CheckpointError, BackboneError) as error:
            # Made by another release: it predicts nothing any more, and must not stand in the way for ever.
            log.warning("round %d: the champion cannot be compared with: %s", plan.round_id, error)
    decision = decide(champion=old, challenger=challenger, margin=settings.gate_margin)
    found = trial.examine(predictor, validation) if decision.promote else None
    publish(pool, plan, settings, weights, decision, found, fence=fence, parent=rival.id if rival else None)
