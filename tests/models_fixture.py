"""Models as rounds leave them, without the minutes of training: real snapshots, decisions, intervals and bins."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from pool_fixture import add_label, add_task
from registry_fixture import register, small_weights
from sqlalchemy import select

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, Round, Snapshot
from maskloop_learner.pool.snapshot import freeze_snapshot
from maskloop_learner.settings import Settings
from maskloop_learner.train.bootstrap import interval
from maskloop_learner.train.calibration import expected_calibration_error, reliability
from maskloop_learner.train.gate import Decision, Rules, decide, decide_alone
from maskloop_learner.train.slices import Case
from maskloop_queue.losses import Losses

LABELS = ("Tumor", "Cyst")
STATES = {"promote": "promoted", "shadow": "shadow", "reject": "rejected"}
COURSE = ((10, 0.52), (20, 0.68), (30, 0.61), (40, 0.74))
"""Labels and true mean Dice of each round."""
IMAGES, STEPS = 60, 300


def make_models(pool: Pool, project: int, settings: Settings, *, course: Sequence[tuple[int, float]] = COURSE) -> None:
    """One model for each pair of labels and Dice, promoted or not as the gate says; three days between them."""
    before: dict[str, list[float]] = {}
    labelled = 0
    for number, (labels, quality) in enumerate(course):
        for ls_id in range(labelled + 1, labels + 1):
            add_label(pool, add_task(pool, project, ls_id), label=LABELS[ls_id % 2])
        labelled = labels
        snapshot = freeze_snapshot(pool, project, share=0.3)
        dice = draw_dice(quality, seed=number)
        decision = decide_round(before, dice)
        register_round(pool, project, settings, number, snapshot, dice, decision)
        if decision.promote:
            before = dice


def draw_dice(quality: float, *, seed: int) -> dict[str, list[float]]:
    """Label -> Dice of each validation image."""
    rng = np.random.default_rng(seed)
    means = zip(LABELS, (quality, quality - 0.1), strict=True)
    return {label: np.clip(rng.normal(mean, 0.1, IMAGES), 0, 1).tolist() for label, mean in means}


def decide_round(old: dict[str, list[float]], new: dict[str, list[float]]) -> Decision:
    """What the gate says."""
    if not old:
        return decide_alone(new)
    cases = [
        Case(image=str(k), group=f"P{k // 2}", label=label, area=0.01 * (k % 9), champion=old[label][k], challenger=d)
        for label, values in new.items()
        for k, d in enumerate(values)
    ]
    errors = {label: {"champion": 0.06, "challenger": 0.05} for label in new}
    return decide(cases, rules=Rules(), errors=errors)


def register_round(
    pool: Pool,
    project: int,
    settings: Settings,
    number: int,
    snapshot: int,
    dice: dict[str, list[float]],
    decision: Decision,
) -> int:
    """A model with all that its round would have kept; returns its id."""
    losses = Losses()
    for step in range(1, STEPS + 1):
        losses.add(step, STEPS, 0.9 * float(np.exp(-step / 90)) + 0.2 + 0.03 * float(np.sin(step)))
    bins, errors = draw_bins(number)
    model = register(
        pool,
        project,
        small_weights(number),
        settings=settings,
        serve=decision.promote,
        snapshot_id=snapshot,
        labels=list(LABELS),
        made_by=f"round {number + 1}",
        config={"seed": number, "steps": STEPS, "temperature": 1.2},
        metrics={
            "validation": decision.figures,
            "decision": decision.reason,
            "gate": decision.to_dict(),
            "loss": losses.points,
            "temperature": 1.2,
            "calibration": {label: {"ece": error} for label, error in errors.items()},
            "sampling": None,
            "dice": {
                "overall": figure([sum(pair) / 2 for pair in zip(*dice.values(), strict=True)]),
                "labels": {label: figure(values) for label, values in dice.items()},
            },
            "reliability": bins,
        },
    )
    with pool.write() as session:
        made = datetime(2026, 1, 5, 9, 30, tzinfo=UTC) + timedelta(days=3 * number)
        session.get_one(Model, model).created_at = made
        row = Round(project_id=project, snapshot_id=snapshot, cause="labels", model_id=model)
        row.state, row.reason, row.decision = STATES[decision.outcome], decision.reason, decision.to_dict()
        row.decision["by"] = {"who": "gate", "round": number + 1, "release": "test"}
        row.ended_at = made
        session.add(row)
    return model


def figure(values: Sequence[float]) -> dict[str, Any]:
    """A mean with its interval, as it is kept."""
    bounds = interval(values, [f"P{k // 2}" for k in range(len(values))], level=0.95, seed=0)
    assert bounds is not None
    return {"mean": float(np.mean(values)), "low": bounds[0], "high": bounds[1], "images": len(values)}


def draw_bins(seed: int) -> tuple[dict[str, list[list[float]]], dict[str, float]]:
    """Label -> bins, and label -> calibration error, of pixels whose truth is a little other than was stated."""
    rng, bins, errors = np.random.default_rng(seed), {}, {}
    for shift, label in zip((0.08, -0.06), LABELS, strict=True):
        p = rng.beta(0.5, 0.5, 20_000)
        truth = rng.random(p.size) < np.clip(p + shift * np.sin(np.pi * p), 0, 1)
        bins[label] = [[round(a, 5), round(b, 5), n] for a, b, n in reliability(p, truth)]
        errors[label] = expected_calibration_error(p, truth)
    return bins, errors


def begin_training(pool: Pool, project: int, *, step: int = 120) -> int:
    """A round that runs; returns its id."""
    losses = Losses()
    for each in range(1, step + 1):
        losses.add(each, STEPS, 1.0 / each + 0.2)
    with pool.write() as session:
        snapshot = session.scalars(select(Snapshot.id).order_by(Snapshot.id.desc())).first()
        row = Round(project_id=project, snapshot_id=snapshot, cause="button", state="running")
        row.progress = {"step": step, "steps": STEPS, "loss": 0.2083, "eta": 95.0, "losses": losses.points}
        session.add(row)
        session.flush()
        return row.id


def champion_of(pool: Pool, project: int) -> Champion:
    """The row as it is now."""
    with pool.read() as session:
        return session.get_one(Champion, project)
