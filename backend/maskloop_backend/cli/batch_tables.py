"""A batch as a table for a person."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from maskloop_backend.batch_files import COLUMNS
from maskloop_learner.pool.members import Member, count_states
from maskloop_learner.pool.schema import Batch

TableFormat = Literal["csv", "json"]


def show_rows(title: str, rows: Sequence[Member], *, note: str) -> None:
    """Print a batch image by image; `note`: what is to be said of all."""
    table = Table(title=escape(title))
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in ("position", "task", "score") else "left")
    for row in rows:
        score = "" if row.score is None else f"{row.score:.4f}"
        image = row.url.rsplit("/", 1)[-1]
        table.add_row(str(row.position), str(row.ls_id), escape(image), row.slot, score, escape(row.reason), row.state)
    Console().print(table)
    if note:
        print(f"{note}.")


def title_of(batch: Batch, rows: Sequence[Member]) -> str:
    """A batch in one line."""
    states = ", ".join(f"{count} {state}" for state, count in count_states(rows).items() if count)
    return f"Batch {batch.number}, {batch.state}: {batch.strategy}, {len(rows)} images ({states})"


def form_of(out: Path | None, form: TableFormat | None) -> TableFormat:
    """The format that is meant."""
    return form or ("json" if out is not None and out.suffix.lower() == ".json" else "csv")
