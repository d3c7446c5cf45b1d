"""The work of a round: labels in, a challenger out, and the gate's question to it and the champion."""

from maskloop_learner.pool.pool import Pool
from maskloop_learner.settings import Settings
from maskloop_learner.train.fallback import look_after
from maskloop_queue.challenger import train_challenger
from maskloop_queue.contest import find_rival, judge, validation_groups
from maskloop_queue.plan import Plan
from maskloop_queue.publication import publish
from maskloop_queue.reporter import Reporter
from maskloop_queue.trials import Trial, load_examples


def train_and_publish(pool: Pool, plan: Plan, settings: Settings, reporter: Reporter) -> None:
    """Train, compare with the champion, examine and publish. Raises TrainingCancelled when it is to end."""
    from maskloop_learner.train.answers import reliability_bins, report_answers
    from maskloop_learner.train.confidence import measure_confidence
    from maskloop_learner.train.examination import Examination

    weights, warm_from = train_challenger(pool, plan, settings, reporter)
    validation = load_examples(pool, plan.manifest, "validation")
    trial = Trial(pool=pool, manifest=plan.manifest, settings=settings, tick=reporter.tick)
    predictor = trial.load(weights)
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
        measure_confidence(answers, validation_groups(plan.manifest), seed=settings.train_seed),
        reliability_bins(answers),
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
        warm_from=warm_from,
    )
