"""Labels of a project as `sync` leaves them, with what was shown, in any number and without a picture."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Label, Task

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)


def add_work(
    pool: Pool,
    project: int,
    author: str | None,
    count: int = 1,
    *,
    shown: str | None = "model",
    version: str = "v1",
    unedited: bool | None = False,
    seconds: float | None = 40.0,
    dice: dict[str, float] | None = None,
    days_ago: float = 1,
    now: datetime = NOW,
    **more: Any,
) -> list[int]:
    """`count` tasks with one label each; returns the labels' ids."""
    with pool.write() as session:
        tasks = [Task(project_id=project, ls_id=-1, part=f"{n}", state="ready") for n in range(count)]
        session.add_all(tasks)
        session.flush()
        labels = []
        for task in tasks:
            task.ls_id, task.part = 10_000 + task.id, "image"
            given = {"ls_annotation_id": 20_000 + task.id, "ls_updated_at": now - timedelta(days=days_ago)}
            figures = ({"Tumor": 1.0} if unedited else {"Tumor": 0.8}) if dice is None else dice
            labels.append(
                Label(
                    task_id=task.id,
                    author=author,
                    lead_time=seconds,
                    shown=shown,
                    shown_version=version if shown in ("model", "blind") else None,
                    unedited=unedited if shown == "model" else None,
                    agreement=figures if shown in ("model", "blind") else {},
                    **given | more,
                )
            )
        session.add_all(labels)
        session.flush()
        return [label.id for label in labels]


def add_team(pool: Pool, project: int, *, now: datetime, label: str = "Tumor", other: str = "Cyst") -> None:
    """Three annotators over forty days, two who look and one who leaves nearly everything at once; blind images."""
    dice = np.random.default_rng(3)
    for author, rate, pace, most in (
        ("ana@clinic.example", 0.3, 12.0, 90),
        ("ben@clinic.example", 0.35, 16.0, 70),
        ("kim@clinic.example", 0.95, 2.5, 80),
    ):
        for _ in range(most):
            left = bool(dice.random() < rate)
            near = 1.0 if left else float(np.clip(dice.normal(0.86, 0.08), 0.2, 0.995))
            took = float(pace * dice.lognormal(0, 0.3) * (1 if left else 4))
            add_work(
                pool, project, author, unedited=left, seconds=0.0 if dice.random() < 0.03 else took,
                dice={label: near, other: 1.0 if left else float(np.clip(near - 0.04, 0, 1))},
                days_ago=float(dice.integers(0, 40)), now=now,
            )  # fmt: skip
    for author in ("ana@clinic.example", "ben@clinic.example"):
        for _ in range(12):
            value = float(np.clip(dice.normal(0.78, 0.1), 0, 1))
            took = float(95 * dice.lognormal(0, 0.3))
            figures = {label: value, other: float(np.clip(value - 0.05, 0, 1))}
            days = float(dice.integers(0, 40))
            add_work(pool, project, author, shown="blind", seconds=took, dice=figures, days_ago=days, now=now)
    add_work(pool, project, None, 3, shown="nothing", seconds=None, days_ago=39, now=now)
    add_work(pool, project, "ben@clinic.example", 2, shown=None, unedited=None, cancelled=True, now=now)
