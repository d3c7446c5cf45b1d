"""A report as a file: whole or not at all, and never in the place of something else."""

from datetime import datetime
from pathlib import Path

from maskloop_learner.evaluate.cells import write_atomically

GENERATOR = "Maskloop report"
"""How the page names what made it; by this a report is known."""
HEAD = 2000
"""Bytes of a file in which that stands."""


class ReportError(ValueError):
    """A report cannot be written where it should be; the message says why and what to do."""


def default_name(project: int, at: datetime) -> str:
    """What a report is called: `maskloop-report-7-2026-01-31.html`. `project`: its number in Label Studio."""
    return f"maskloop-report-{project}-{at:%Y-%m-%d}.html"


def check_target(path: Path, *, force: bool) -> None:
    """Raise ReportError where a report must not be written: on a folder, a device, or, without `force`, on a file
    that is no report of Maskloop."""
    if path.is_dir():
        raise ReportError(f"{str(path)!r} is a folder; name a file in it with --out")
    if not path.exists():
        return
    if not path.is_file():
        raise ReportError(f"{str(path)!r} is no plain file; name another with --out")
    if not force and not is_report(path):
        raise ReportError(
            f"{str(path)!r} is there already and is no report of Maskloop; name another file with --out, "
            "or replace it with --force"
        )


def is_report(path: Path) -> bool:
    """Whether a file is a report that Maskloop wrote. Raises ReportError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return f'<meta name="generator" content="{GENERATOR}'.encode() in file.read(HEAD)
    except OSError as error:
        raise ReportError(f"{str(path)!r} cannot be read ({error.strerror}); name another file with --out") from error


def write_report(path: Path, text: str, *, force: bool) -> int:
    """Write the page, by a temporary file beside it; returns its bytes. Raises ReportError."""
    check_target(path, force=force)
    data = text.encode()
    try:
        write_atomically(path, data)
    except OSError as error:
        raise ReportError(f"{str(path)!r} cannot be written ({error.strerror}); name another with --out") from error
    return len(data)
