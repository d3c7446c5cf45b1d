"""What an import or export did, for a person to read."""

import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from maskloop_backend.transfer.report import Report
from maskloop_backend.transfer.sources import Source
from maskloop_learner.pool.schema import Project

SHOWN = 20
"""Refused files that a person is shown; --json has all."""


def show_report(report: Report, source: Source, project: Project, *, dry: bool, noun: str) -> None:
    """A table of what became of the files, and the reasons of those that were refused."""
    would = "would be " if dry else ""
    table = Table(title=escape(f"{source.title} into project {project.ls_id} ({project.title})"))
    table.add_column("")
    table.add_column("Images", justify="right")
    table.add_row(f"{would}imported".strip(), str(report.imported))
    table.add_row(f"  of these with {noun}", str(report.labelled))
    if report.added:
        table.add_row(f"{noun} {would}added to tasks there", str(report.added))
    for reason, count in report.skip_reasons().items():
        table.add_row(f"skipped: {reason}", str(count))
    table.add_row("refused", str(len(report.refused)))
    Console(highlight=False).print(table)
    show_reasons("Refused", report.refused)


def show_reasons(title: str, rows: list[tuple[str, str]]) -> None:
    """The first of these names and reasons, on stderr."""
    for name, reason in rows[:SHOWN]:
        print(f"{title}: {name}: {reason}", file=sys.stderr)
    if len(rows) > SHOWN:
        print(f"{title}: {len(rows) - SHOWN} more; --json lists all", file=sys.stderr)
