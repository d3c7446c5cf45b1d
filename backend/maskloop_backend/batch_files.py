"""A batch as plain data: JSON and CSV for scripts, and what the command line and the dashboard print."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_learner.pool.members import Member, count_states
from maskloop_learner.pool.planning import Planned
from maskloop_learner.pool.schema import Batch, Task

COLUMNS = ("position", "task", "image", "slot", "score", "reason", "state")
ROWS_AT_ONCE = 500


def describe(batch: Batch, rows: Sequence[Member], *, items: bool = True) -> dict[str, Any]:
    """A batch as plain data; `items`: with its images."""
    found: dict[str, Any] = {
        "batch": batch.number,
        "state": batch.state,
        "strategy": batch.strategy,
        "seed": batch.seed,
        "options": batch.options,
        "version": batch.version_id,
        "note": batch.note,
        "images": len(rows),
        "counts": count_states(rows),
        "created_at": batch.created_at.isoformat(),
        "created_by": batch.created_by,
        "closed_at": batch.closed_at.isoformat() if batch.closed_at else None,
    }
    return {**found, "items": [describe_row(row) for row in rows]} if items else found


def describe_plan(planned: Planned, rows: Sequence[Member]) -> dict[str, Any]:
    """What would be chosen, as plain data."""
    return {
        "strategy": planned.strategy,
        "seed": planned.seed,
        "options": dict(planned.options),
        "version": planned.version_id,
        "note": planned.note,
        "candidates": planned.candidates,
        "images": len(rows),
        "items": [describe_row(row) for row in rows],
    }


def describe_row(row: Member) -> dict[str, Any]:
    """An image of a batch as plain data."""
    found = asdict(row)
    return {"position": found.pop("position"), "task": found.pop("ls_id"), "image": found.pop("url"), **found}


def preview(session: Session, planned: Planned, *, limit: int | None = None) -> list[Member]:
    """What a plan would lock, in its order; `limit`: only so many from the first on."""
    picks = planned.picks[:limit]
    ids = [pick.id for pick in picks]
    tasks: dict[int, Task] = {}
    for start in range(0, len(ids), ROWS_AT_ONCE):
        statement = select(Task).where(Task.id.in_(ids[start : start + ROWS_AT_ONCE]))
        tasks |= {task.id: task for task in session.scalars(statement)}
    return [
        Member(
            position=position,
            task_id=pick.id,
            ls_id=tasks[pick.id].ls_id,
            url=tasks[pick.id].url,
            slot=pick.slot,
            score=pick.score,
            reason=pick.reason,
            figures=dict(pick.figures),
            state="waiting",
        )
        for position, pick in enumerate(picks, 1)
    ]


def to_csv(batch: Batch, rows: Sequence[Member]) -> str:
    """One line for each image; a figure that not every image has is empty elsewhere, the batch's note is on each."""
    figures = list(dict.fromkeys(name for row in rows for name in row.figures))
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["batch", "strategy", *COLUMNS, *figures, "note"])
    for row in rows:
        plain = describe_row(row)
        cells = *(plain[name] for name in COLUMNS), *_cells(row, figures)
        table.writerow([batch.number, batch.strategy, *cells, batch.note])
    return text.getvalue()


def to_json(found: dict[str, Any]) -> str:
    """The same as a document."""
    return json.dumps(found, indent=2) + "\n"


def _cells(row: Member, figures: Sequence[str]) -> Iterator[Any]:
    for name in figures:
        value = row.figures.get(name, "")
        yield " ".join(map(str, value)) if isinstance(value, list) else value
