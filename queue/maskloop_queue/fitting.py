"""The work of a round: labels in, a challenger out, and the gate's question to it and the champion."""

import logging

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model
from maskloop_learner.pool.store import BlobError
from maskloop_learner.prompts.rules import default_prompts, render_negative
from maskloop_learner.settings import Settings
from maskloop_learner.train.fallback import look_after
from maskloop_learner.train.gate import decide
from maskloop_queue.plan import Plan
from maskloop_queue.publication import publish
from maskloop_queue.reporter import Reporter
from maskloop_queue.trials import Trial, load_examples

log = logging.getLogger(__name__)


def train_and_publish(pool: Pool, plan: Plan, settings: Settings, reporter: Reporter) -> None:
    """Train, compare with the champion, examine and publish. Raises TrainingCancelled when it is to end."""
    from maskloop_learner.model.bases import BackboneError, Bases
    from maskloop_learner.model.checkpoint import CheckpointError
    from maskloop_learner.train.loop import Progress, train

    def on_progress(progress: Progress) -> None:
        reporter.progress({"step": progress.step, "steps": progress.steps, "loss": progress.loss, "eta": progress.eta})

    examples = {side: load_examples(pool, plan.manifest, side) for side in ("train", "validation")}
    bases = Bases(settings.bases_folder)
    labels, templates = plan.manifest["labels"], plan.manifest["prompts"]
    weights = train(
        examples["train"],
        backbone=settings.backbone,
        labels=labels,
        prompts=default_prompts(labels, templates),
        negatives={label: text for label in labels if (text := render_negative(label, templates))},
        prompt_dropout=settings.prompt_dropout,
        steps=settings.train_steps,
        batch=settings.train_batch,
        seed=settings.train_seed,
        device=settings.device,
        checkpoint=plan.folder / "checkpoint.pt",
        checkpoint_steps=settings.checkpoint_steps,
        on_progress=on_progress,
        should_stop=reporter.stopped,
        bases=bases,
        precision=settings.precision,
    )
    trial = Trial(pool=pool, manifest=plan.manifest, settings=settings, tick=reporter.tick)
    predictor = trial.load(weights)
    challenger = trial.validate(predictor, examples["validation"])
    # A champion that is lost or altered is no rival: the last one that is whole takes its place first.
    look_after(pool, plan.project_id, settings)
    with pool.read() as session:
        champion = session.get(Champion, plan.project_id)
        fence = champion.fence if champion else 0
        rival = session.get_one(Model, champion.model_id) if champion else None
    # Champion and challenger are compared on the very same images, in the same order, with the same samples.
    old = None
    if rival is not None and set(plan.manifest["labels"]) <= set(rival.labels):
        try:
            rivals_weights = pool.store.get("weights", rival.weights_digest)
            old = trial.validate(trial.load(rivals_weights), examples["validation"])
        except (CheckpointError, BackboneError, BlobError) as error:
            # Lost, or made by another release: it predicts nothing any more, and must not stand in the way for ever.
            log.warning("round %d: the champion cannot be compared with: %s", plan.round_id, error)
    decision = decide(champion=old, challenger=challenger, margin=settings.gate_margin)
    found = trial.examine(predictor, examples["validation"]) if decision.promote else None
    publish(pool, plan, settings, weights, decision, found, fence=fence, parent=rival.id if rival else None)
