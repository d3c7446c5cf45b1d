"""A project with a history: labels of three annotators over days, trainings with gate decisions, batches, failures."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from dashboard_fixture import HEIGHT, WIDTH, Site, make_site
from pool_fixture import add_model
from sqlalchemy import delete, select, update

from maskloop_learner.pool.events import record
from maskloop_learner.pool.masks import encode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Batch, BatchItem, Champion, Event, Label, Model, Round, Snapshot, Task

ANNOTATORS = ("ada@clinic.test", "ben@clinic.test", "cem@clinic.test")
LEAD = "lead@clinic.test"
START = datetime(2026, 1, 6, 9, 0, tzinfo=UTC)


def make_history(pool: Pool, count: int = 30) -> Site:
    """`make_site` with more that has happened: the 3rd model was rejected, one training failed, one batch is done."""
    site = make_site(pool, count)
    draw_labels(pool, site)
    with pool.write() as session:
        first, served = session.scalars(select(Model.id).where(Model.project_id == site.project).order_by(Model.id))
        champion = session.get_one(Champion, site.project)
        champion.model_id, champion.previous_model_id, champion.changed_by = served, first, LEAD
    last = add_model(pool, site.project, b"a third")
    for number, model in enumerate((first, served, last)):
        finish(pool, site.project, model, number)
    with pool.write() as session:
        snapshot = Snapshot(project_id=site.project, digest="0" * 64, label_ids=[1])
        session.add(snapshot)
        session.flush()
        failed = Round(project_id=site.project, snapshot_id=snapshot.id, cause="cli", state="failed", failures=3)
        failed.reason, failed.ended_at = "ImageError: task 7 cannot be read", START + timedelta(days=5)
        session.add(failed)
        session.flush()
        record(session, "round.failed", project_id=site.project, subject=str(failed.id), data={"reason": failed.reason})
    end_first_batch(pool, site)
    return site


def draw_labels(pool: Pool, site: Site) -> None:
    """Tasks 13 to 24 (from 1), by three annotators on four days; each draws another box."""
    with pool.write() as session:
        for number, task in enumerate(site.tasks[12:24]):
            mask = np.zeros((HEIGHT, WIDTH), bool)
            mask[90 : 140 + number, 110 : 180 + number] = True
            session.add(
                Label(
                    task_id=task,
                    ls_annotation_id=500 + task,
                    masks={"Tumor": pool.store.put("masks", encode_mask(mask))},
                    author=ANNOTATORS[number % 3],
                    lead_time=20.0 + 5 * number,
                    shown="model",
                    shown_version=site.version,
                    unedited=number % 3 == 0,
                    agreement={"Tumor": 1.0 if number % 3 == 0 else 0.8 + number / 100, "Cyst": 0.9},
                    ls_updated_at=START + timedelta(days=number // 3, minutes=7 * number),
                    created_at=START + timedelta(days=number // 3, minutes=7 * number),
                )
            )


def finish(pool: Pool, project: int, model: int, number: int) -> None:
    """The figures, the round and the event of the `number`-th model: the first two serve, the third is rejected."""
    mean = (0.61, 0.742, 0.735)[number]
    outcome = ("promoted", "promoted", "rejected")[number]
    at = START + timedelta(days=number + 1)
    with pool.write() as session:
        labels = session.scalars(select(Label.id).order_by(Label.id)).all()
        snapshot = Snapshot(project_id=project, digest="0" * 64, label_ids=list(labels[: 2 + 6 * number]))
        session.add(snapshot)
        session.flush()
        row = session.get_one(Model, model)
        row.snapshot_id, row.created_at, row.metrics = snapshot.id, at, make_metrics(mean)
        bound = ("+0.0410", "+0.0872", "-0.0413, which must be above -0.01")[number]
        reason = f"mean Dice {mean:.3f} on 32 validation images; with 95 % confidence the difference is above {bound}"
        done = Round(project_id=project, snapshot_id=snapshot.id, cause="labels", state=outcome, model_id=model)
        done.reason, done.decision, done.ended_at = reason, make_decision(mean), at
        session.add(done)
        session.flush()
        if outcome == "promoted":
            data = {"model": model, "previous": None, "fence": number + 1, "by": LEAD, "pinned": False}
            session.add(Event(project_id=project, kind="champion.changed", subject="maskloop-x", data=data, at=at))


def make_metrics(mean: float) -> dict[str, Any]:
    """As a training leaves them."""

    def dice(value: float) -> dict[str, Any]:
        return {"mean": value, "low": round(value - 0.04, 3), "high": round(value + 0.035, 3), "images": 32}

    bins = [[round(p, 2), round(p**1.3, 3), 4000] for p in np.linspace(0.05, 0.95, 10).tolist()]
    return {
        "dice": {"overall": dice(mean), "labels": {"Tumor": dice(mean + 0.05), "Cyst": dice(mean - 0.05)}},
        "validation": {"Tumor": {"challenger": mean + 0.05}, "Cyst": {"challenger": mean - 0.05}},
        "calibration": {"Tumor": {"ece": 0.021}, "Cyst": {"ece": 0.034}},
        "temperature": 1.2,
        "reliability": {"Tumor": bins, "Cyst": [[p, max(0.0, round(f - 0.04, 3)), n] for p, f, n in bins]},
        "loss": [[10, 0.9], [20, 0.5], [30, 0.3]],
    }


def make_decision(mean: float) -> dict[str, Any]:
    """As the gate leaves it."""
    part = {"images": 11, "champion": mean - 0.1, "counted": False, "passed": True}
    return {
        "outcome": "promote",
        "reason": "it is better",
        "by": {"who": LEAD},
        "slices": [
            {"kind": "label", "name": "Tumor", **part, "challenger": mean + 0.05},
            {"kind": "size", "name": "small", **part, "challenger": mean - 0.21},
            {"kind": "size", "name": "large", **part, "challenger": mean + 0.11},
            {"kind": "source", "name": "scanner B", **part, "challenger": mean - 0.02},
        ],
    }


def end_first_batch(pool: Pool, site: Site) -> None:
    """Batch 1 is done and its labels say so; batch 2 is open with the last ten images."""
    with pool.write() as session:
        batch = session.scalars(select(Batch).where(Batch.project_id == site.project)).one()
        batch.state, batch.closed_at, batch.created_by = "closed", START + timedelta(days=4), LEAD
        batch.created_at = START - timedelta(days=1)
        session.execute(delete(BatchItem).where(BatchItem.batch_id == batch.id))
        for place, task in enumerate(site.tasks[12:24], 1):
            reason = f"number {place} by uncertainty"
            session.add(BatchItem(batch_id=batch.id, task_id=task, position=place, slot="uncertain", reason=reason))
        session.execute(update(Label).where(Label.task_id.in_(site.tasks[12:24])).values(batch_id=batch.id))
        batch_2 = Batch(project_id=site.project, number=2, strategy="power", version_id=site.version, created_by=LEAD)
        session.add(batch_2)
        session.flush()
        for place, task in enumerate(reversed(site.tasks[-5:]), 1):
            slot = "random" if place == 5 else "uncertain"
            session.add(
                BatchItem(batch_id=batch_2.id, task_id=task, position=place, slot=slot, reason=f"{slot} {place}")
            )
        session.get_one(Task, site.tasks[-1]).blind = True
