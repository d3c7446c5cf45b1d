"""What the commands on data sets share: opening one, telling findings, one line for each expected error."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from maskloop_backend.cli.errors import CommandError
from maskloop_learner.data import DataError
from maskloop_learner.data.findings import Finding
from maskloop_learner.data.layout import Dataset
from maskloop_learner.settings import Settings

if TYPE_CHECKING:
    from maskloop_learner.evaluate.model import Machine

DatasetArgument = Annotated[
    Path,
    typer.Argument(
        exists=True, file_okay=False, help="Data set in MedCLIPSeg's layout: Prompts_Folder, Train_Folder, ... or img."
    ),
]
SampleMethod = Annotated[str, typer.Option("--method", help="How to sample: monte-carlo, antithetic or mean-value.")]
METHODS = ("monte-carlo", "antithetic", "mean-value")
MESSAGES = 3
"""Findings of one kind that are told one by one."""


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what data sets, weights and trainings may raise into one line. Loads torch only when something failed."""
    try:
        yield
    except DataError as error:
        raise CommandError(str(error)) from error
    except (RuntimeError, ValueError) as error:
        from maskloop_learner.evaluate.cells import ProtocolError
        from maskloop_learner.model.bases import BackboneError
        from maskloop_learner.model.checkpoint import CheckpointError
        from maskloop_learner.train.examples import TrainingError

        if isinstance(error, ProtocolError | BackboneError | CheckpointError | TrainingError):
            raise CommandError(str(error)) from error
        raise


def check_method(method: str) -> None:
    """Raises CommandError for an unknown method of sampling."""
    if method not in METHODS:
        raise CommandError(f"--method must be one of {', '.join(METHODS)}, got {method!r}")


def describe_machine(settings: Settings) -> "Machine":
    """Device, precision and backbones of this installation."""
    from maskloop_learner.evaluate.model import Machine
    from maskloop_learner.model.bases import Bases

    return Machine(settings.device, settings.precision, Bases(settings.bases_folder))


def open_dataset(path: Path) -> Dataset:
    """The data set in a folder. Raises CommandError naming what is missing from it."""
    with plain_errors():
        return Dataset.open(path)


def show_progress() -> Progress:
    """A bar on stderr; stdout is for results."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def tell_findings(findings: Sequence[Finding]) -> None:
    """Print findings on stderr, the first few of each kind and sheet, and how many more there are."""
    counts = Counter((finding.level, finding.sheet, finding.kind) for finding in findings)
    for (level, sheet, kind), count in counts.items():
        alike = [finding for finding in findings if (finding.sheet, finding.kind) == (sheet, kind)]
        for finding in alike[:MESSAGES]:
            print(f"{level}: {sheet + ': ' if sheet else ''}{finding.message}", file=sys.stderr)
        if count > MESSAGES:
            print(f"{level}: {sheet + ': ' if sheet else ''}{count - MESSAGES} more ({kind})", file=sys.stderr)
