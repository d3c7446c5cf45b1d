"""The work of a round: labels in, a challenger out, and the gate's question to it and the champion."""

from maskloop_learner.pool.pool import Pool
from maskloop_learner.prompts.rules import default_prompts, render_negative
from maskloop_learner.settings import Settings
from maskloop_learner.train.fallback import look_after
from maskloop_queue.contest import find_rival, judge
from maskloop_queue.plan import Plan
from maskloop_queue.publication import publish
from maskloop_queue.reporter import Reporter
from maskloop_queue.trials import Trial, load_examples


def train_and_publish(pool: Pool, plan: Plan, settings: Settings, reporter: Reporter) -> None:
    """Train, compare with the champion, examine and publish. Raises TrainingCancelled when it is to end."""
    from maskloop_learner.model.bases import Bases
    from maskloop_learner.train.answers import report_answers
    from maskloop_learner.train.examination import Examination
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
    predictor, validation = trial.load(weights), examples["validation"]
    temperature, reason = trial.fit_temperature(predictor, validation)
    answers = trial.validate(predictor, validation, temperature=temperature)
    # A champion that is lost or altered is no rival: the last one that is whole takes its place first.
    look_after(pool, plan.project_id, settings)
    rival = find_rival(pool, plan.project_id)
    decision = judge(pool, plan, settings, trial, answers, validation, rival)
    found = Examination(
        temperature,
        reason,
        report_answers(answers, temperature=temperature),
        # A model that is rejected ranks nothing.
        trial.choose_ranking(predictor, temperature=temperature) if decision.outcome != "reject" else None,
    )
    publish(
        pool,
        plan,
        settings,
        weights,
        decision,
        found,
        fence=rival.fence if rival else 0,
        parent=rival.model.id if rival else None,
    )
