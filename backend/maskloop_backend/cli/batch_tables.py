"""A batch as a table for a person, and as JSON or CSV for a script."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_learner.pool.members import Member, count_states
from maskloop_learner.pool.planning import Planned
from maskloop_learner.pool.schema import Batch, Task

TableFormat = Literal["csv", "json"]
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
        "candidates": planned.candidates,
        "images": len(rows),
        "items": [describe_row(row) for row in rows],
    }


def describe_row(row: Member) -> dict[str, Any]:
    """An image of a batch as plain data."""
    found = asdict(row)
    return {"position": found.pop("position"), "task": found.pop("ls_id"), "image": found.pop("url"), **found}


def preview(session: Session, planned: Planned) -> list[Member]:
    """What a plan would lock, in its order."""
    ids = [pick.id for pick in planned.picks]
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
        for position, pick in enumerate(planned.picks, 1)
    ]


def show_rows(title: str, rows: Sequence[Member]) -> None:
    """Print a batch image by image."""
    table = Table(title=escape(title))
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in ("position", "task", "score") else "left")
    for row in rows:
        score = "" if row.score is None else f"{row.score:.4f}"
        image = row.url.rsplit("/", 1)[-1]
        table.add_row(str(row.position), str(row.ls_id), escape(image), row.slot, score, escape(row.reason), row.state)
    Console().print(table)


def title_of(batch: Batch, rows: Sequence[Member]) -> str:
    """A batch in one line."""
    states = ", ".join(f"{count} {state}" for state, count in count_states(rows).items() if count)
    return f"Batch {batch.number}, {batch.state}: {batch.strategy}, {len(rows)} images ({states})"


def form_of(out: Path | None, form: TableFormat | None) -> TableFormat:
    """The format that is meant."""
    return form or ("json" if out is not None and out.suffix.lower() == ".json" else "csv")


def to_csv(batch: Batch, rows: Sequence[Member]) -> str:
    """One line for each image; a figure that not every image has is empty elsewhere."""
    figures = list(dict.fromkeys(name for row in rows for name in row.figures))
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["batch", "strategy", *COLUMNS, *figures])
    for row in rows:
        plain = describe_row(row)
        table.writerow([batch.number, batch.strategy, *(plain[name] for name in COLUMNS), *_cells(row, figures)])
    return text.getvalue()


def to_json(found: dict[str, Any]) -> str:
    """The same as a document."""
    return json.dumps(found, indent=2) + "\n"


def _cells(row: Member, figures: Sequence[str]) -> Iterator[Any]:
    for name in figures:
        value = row.figures.get(name, "")
        yield " ".join(map(str, value)) if isinstance(value, list) else value
