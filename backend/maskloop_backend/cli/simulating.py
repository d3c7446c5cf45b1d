"""`maskloop simulate`: what the ranking would have saved on images that are all labelled already."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from maskloop_backend.cli.context import print_json, start_logging
from maskloop_backend.cli.datasets import check_method, plain_errors, show_progress
from maskloop_backend.cli.errors import CommandError
from maskloop_backend.cli.subjects import read_prompts
from maskloop_learner.settings import CORES, Settings, get_settings

if TYPE_CHECKING:
    from maskloop_learner.select.outcome import Results
    from maskloop_learner.select.plan import Plan

STEADY = 3600.0
"""Seconds over which the bar's pace is measured: a round takes minutes."""


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(simulate)


def simulate(
    images: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of images.")],
    masks: Annotated[
        Path,
        typer.Option(
            exists=True, file_okay=False, help="Their masks, 0/255, of the same names; or a folder per label."
        ),
    ],
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder of the results; a run into the same folder goes on.")
    ],
    prompts: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Workbook (.xlsx) with each image's mask and prompt."),
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help='"Label=text" to ask for; may be repeated. Else the label\'s name.')
    ] = None,
    strategies: Annotated[
        str,
        typer.Option(
            help="Names with commas between; NAME:measure/aggregation ranks by another score. `random` is always there."
        ),
    ] = "uncertainty,random",
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions with other first labels and other chance.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Batches that are chosen.")] = 5,
    batch: Annotated[int, typer.Option(min=1, help="Images of a batch.")] = 8,
    initial: Annotated[
        int | None, typer.Option(min=1, help="Labels before the first choice, by lot; as --batch when left out.")
    ] = None,
    test_share: Annotated[
        float, typer.Option(help="Share of the images, by groups, that test and are never chosen.")
    ] = 0.4,
    group_pattern: Annotated[
        str | None, typer.Option(help=r'Regular expression for the patient in a name, e.g. "^(P\d+)_".')
    ] = None,
    skip_empty: Annotated[
        bool, typer.Option("--skip-empty", help="Leave out images whose masks are all empty.")
    ] = False,
    oracle: Annotated[
        str,
        typer.Option(help="Who labels: perfect, noisy_boundary[:PIXELS], missing_small[:SHARE], anchored[:IOU]."),
    ] = "perfect",
    random_share: Annotated[float, typer.Option(help="Share of every batch that is drawn by lot.")] = 0.1,
    target: Annotated[
        list[float] | None, typer.Option(help="Dice whose price in labels is told; may be repeated.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="MASKLOOP_BACKBONE when left out.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of each training; MASKLOOP_TRAIN_STEPS when left out.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="How predictions are sampled: mean-value (one pass), monte-carlo or antithetic.")
    ] = "mean-value",
    samples: Annotated[
        int | None, typer.Option(min=1, help="Of the other two; MASKLOOP_SAMPLES when left out.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes, of one thread each.")] = CORES,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """How many labels a strategy saves: choose, label, train and test, round by round, on images that are labelled.

    The labels come from their masks (--oracle). Every strategy begins with the same first labels and is tested on the
    same images. It leaves results.json, curves.png and curves.html.

    What was finished is kept: after an interruption, run the same command again.
    """
    check_method(method)
    settings = get_settings()
    start_logging(settings)
    asked = read_prompts(prompt or [])
    names = [name.strip() for name in strategies.split(",") if name.strip()]
    with _plain_errors():
        from maskloop_learner.select.cautions import warn_before
        from maskloop_learner.select.labelled import read_labelled
        from maskloop_learner.select.oracle import Oracle
        from maskloop_learner.select.outcome import conclude
        from maskloop_learner.select.report import write_report
        from maskloop_learner.select.simulation import hold

        drawer = Oracle.parse(oracle)
        if not 0 < test_share < 1:
            raise CommandError(f"--test-share must be between 0 and 1, got {test_share!r}")
        if bad := [each for each in target or [] if not 0 < each <= 1]:
            raise CommandError(f"--target must be a Dice above 0 and up to 1, got {bad[0]!r}")
        found = read_labelled(images, masks, prompts=asked, sheet=prompts, group_pattern=group_pattern)
        _tell(found.notes)
        with hold(out):
            subjects, ground = _survey(found.subjects, test_share=test_share, skip_empty=skip_empty)
            from maskloop_learner.select.plan import BASELINE, Plan

            plan = Plan(
                folder=out,
                subjects=tuple(subjects),
                ground=ground,
                prompts=found.prompts,
                strategies=tuple(dict.fromkeys([BASELINE, *names])),
                seeds=seeds,
                rounds=rounds,
                batch=batch,
                first=initial or batch,
                random_share=random_share,
                oracle=drawer,
                learning=_learning(settings, backbone, steps),
                predicting=_predicting(settings, method, samples),
                device=settings.device,
                bases=settings.bases_folder,
            )
            _tell(warn_before(plan))
            _run(plan, workers)
            results = conclude(plan, targets=target or [])
            files = write_report(out, results, title=f"Simulation on {'/'.join(images.absolute().parts[-2:])}")
    if as_json:
        print_json({**results, "files": [str(path) for path in files]})
    else:
        _show(results, files)


def prepare(parent: int) -> None:
    """In every process of the simulation: it does not outlive the command, not even when that is killed."""
    from maskloop_queue.processes import die_with_parent

    die_with_parent(signal.SIGKILL, parent=parent)


def _learning(settings: Settings, backbone: str | None, steps: int | None) -> dict[str, Any]:
    from maskloop_learner.model.backbones import find_backbone

    return {
        "backbone": find_backbone(backbone or settings.backbone).name,
        "steps": steps or settings.train_steps,
        "batch": settings.train_batch,
        "augmentation": settings.augmentation,
        "patience": settings.early_stopping,
        "precision": settings.precision,
    }


def _predicting(settings: Settings, method: str, samples: int | None) -> dict[str, Any]:
    return {
        "method": method,
        "samples": 1 if method == "mean-value" else samples or settings.samples,
        "threshold": settings.threshold,
        "min_speck_area": settings.min_speck_area,
        "max_hole_area": settings.max_hole_area,
    }


def _survey(found: Sequence[Any], *, test_share: float, skip_empty: bool) -> tuple[list[Any], Any]:
    """The subjects that take part and how they are parted; every file is read once."""
    from maskloop_learner.select.ground import part, survey

    with show_progress() as bar:
        shown = bar.add_task("Reading images", total=len(found))
        looks, marked = survey(found, tick=lambda: bar.advance(shown))
    if not any(marked):
        raise CommandError(f"all masks of the {len(found)} images are empty, so there is nothing to learn")
    kept = [place for place in range(len(found)) if marked[place] or not skip_empty]
    if len(kept) < len(found):
        _tell([f"{len(found) - len(kept)} images with empty masks are left out (--skip-empty)"])
    subjects = [found[place] for place in kept]
    return subjects, part(subjects, [looks[place] for place in kept], test_share=test_share)


def _run(plan: "Plan", workers: int) -> None:
    """Do what is left, with a bar over all rounds. Ctrl-C leaves a folder that can be gone on with, and says so."""
    from maskloop_learner.evaluate.cells import Cells
    from maskloop_learner.select.simulation import finished, run_grid

    Cells(plan.folder, settings=plan.determining())
    total, done = len(list(plan.steps())), len(finished(plan))
    if done:
        _tell([f"{done} of {total} rounds are finished already; going on"])
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, TextColumn("left"), TimeRemainingColumn(), console=Console(stderr=True), speed_estimate_period=STEADY
    ) as bar:
        shown = bar.add_task("Rounds", total=total, completed=done)
        try:
            run_grid(plan, workers=workers, on_step=lambda step: bar.advance(shown), prepare=prepare)
        except KeyboardInterrupt:
            bar.stop()
            kept = len(finished(plan))
            _tell([f"stopped after {kept} of {total} rounds; the same command goes on from there, in {plan.folder}"])
            raise


def _show(results: "Results", files: Sequence[Path]) -> None:
    from maskloop_learner.select.tables import AREA_HEAD, EFFORT_HEAD, area_rows, effort_rows, target_head, target_rows

    console = Console()
    tables = (
        (AREA_HEAD, area_rows(results)),
        (target_head(results), target_rows(results)),
        (EFFORT_HEAD, effort_rows(results)),
    )
    for head, rows in tables:
        table = Table()
        for place, name in enumerate(head):
            table.add_column(name, justify="right" if place else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for target in results["targets"]:
        print(f"Dice {target['dice']:.3f}: {target['why']}.")
    for text in results["verdicts"]:
        print(f"{text}.")
    for text in results["warnings"]:
        print(f"Mind: {text}.")
    print(f"Written: {', '.join(str(path) for path in files)}")


def _tell(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """One line for each expected error, as `plain_errors`, and those of choosing and simulating."""
    from maskloop_learner.select.choosing import ChoosingError
    from maskloop_learner.select.oracle import OracleError
    from maskloop_learner.select.plan import SimulationError

    with plain_errors():
        try:
            yield
        except (ChoosingError, OracleError, SimulationError) as error:
            raise CommandError(str(error)) from error
