"""`maskloop train --cancel`: a training ends within seconds, whatever its process is busy with."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from rich.console import Console

from maskloop_backend.cancelling import cancel_training
from maskloop_backend.cli.context import print_json
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project
from maskloop_learner.settings import Settings
from maskloop_queue.connection import connect


def report_cancel(pool: Pool, settings: Settings, project: Project, *, as_json: bool) -> None:
    """Cancel and print what came of it."""
    found = cancel_training(pool, connect(settings), settings, project, by="the cancel command")
    if as_json:
        print_json(asdict(found))
        return
    if found.round is not None:
        how = "has ended" if found.ended else "ends after the step at hand (its worker did not answer)"
        print(f"Round {found.round} is cancelled; its process {how}.")
    if found.wishes:
        print(f"Training was asked for {found.wishes} times more: withdrawn.")


@contextmanager
def goes_on_without_us() -> Iterator[None]:
    """Have Ctrl-C end the watching alone, and say so."""
    try:
        yield
    except KeyboardInterrupt:
        Console(stderr=True).print("The training goes on; `maskloop train --cancel` ends it.", markup=False)
        raise
