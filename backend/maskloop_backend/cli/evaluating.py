"""`maskloop evaluate` and `maskloop lint-dataset`, and the paper's protocols of cli/protocols.py."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from maskloop_backend.cli import protocols
from maskloop_backend.cli.context import print_json, start_logging
from maskloop_backend.cli.datasets import (
    DatasetArgument,
    SampleMethod,
    check_method,
    describe_machine,
    open_dataset,
    plain_errors,
    show_progress,
    tell_findings,
)
from maskloop_backend.cli.errors import CommandError
from maskloop_backend.cli.ranking import ProjectOption
from maskloop_backend.cli.subjects import Subject, find_subject, pick_label, read_prompts
from maskloop_learner.data.layout import SPLITS, VARIANTS
from maskloop_learner.settings import get_settings

if TYPE_CHECKING:
    from maskloop_backend.cli.sources import Source

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(evaluate)
    app.command()(lint_dataset)
    protocols.register(app)


def evaluate(
    images: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="Folder of images.")] = None,
    masks: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="A folder per label, of 0/255 PNG.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Data set in MedCLIPSeg's layout, instead.")
    ] = None,
    split: Annotated[str, typer.Option(help=f"Of the data set: {', '.join(SPLITS)}.")] = "test",
    prompts: Annotated[str, typer.Option(help=f"Of its test split: {', '.join(VARIANTS)}.")] = "original",
    project: ProjectOption = None,
    model: Annotated[int | None, typer.Option(help="Id of the model; the champion when left out.")] = None,
    weights: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Weights file; needs no project.")
    ] = None,
    only: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Text file: names of the images to take.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="The label that the data set's masks are of.")] = None,
    prompt: Annotated[list[str] | None, typer.Option(help='"Label=text" to ask for instead; may be repeated.')] = None,
    method: SampleMethod = "monte-carlo",
    samples: Annotated[int | None, typer.Option(min=1, help="Samples per prediction; MASKLOOP_SAMPLES.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take this many of the images, evenly spaced.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder for results.csv, summary.json, contact.png, contact.html."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """How good a model is on labelled images which no training has seen.

    Figures by label: Dice, IoU, NSD (2 pixels), HD95 and calibration.

    --out writes them for each image too, and draws pictures.

    The images are two folders (--images, --masks) or a --dataset.

    The model is a project's, or a file (--weights) that needs no project.
    """
    check_method(method)
    settings = get_settings()
    start_logging(settings)
    asked = read_prompts(prompt or [])
    subject = find_subject(project, model, weights)
    from maskloop_backend.cli.sources import take_dataset, take_folders

    with plain_errors():
        if dataset is not None and images is None and masks is None:
            one = pick_label(subject, label)
            known = {one: ""}
            source = take_dataset(open_dataset(dataset), split, prompts, label=one, prompt=asked.get(one))
        elif dataset is None and images is not None and masks is not None:
            known = subject.labels
            source = take_folders(images, masks, prompts={**subject.labels, **asked})
        else:
            raise CommandError("give --images and --masks, or --dataset alone: what is to be evaluated on?")
        if unknown := asked.keys() - known.keys():
            raise CommandError(f"--prompt names {sorted(unknown)[0]!r}, but the labels are: {', '.join(known)}")
        chosen = source.choose(only=only, limit=limit)
        tell_findings(source.findings)
        taken = {"samples": samples or settings.samples, "method": method}
        about = {**source.about, **subject.about, **taken}
        _run(subject, chosen, about, taken, out=out, as_json=as_json)


def _run(
    subject: Subject,
    source: "Source",
    about: Mapping[str, Any],
    taken: dict[str, Any],
    *,
    out: Path | None,
    as_json: bool,
) -> None:
    """Predict and measure all, then write and tell."""
    from maskloop_learner.evaluate.model import Prediction, open_model
    from maskloop_learner.evaluate.report import Evaluation, write_report
    from maskloop_learner.evaluate.results import to_text
    from maskloop_learner.evaluate.run import evaluate_cases
    from maskloop_queue.processes import set_threads

    settings = get_settings()
    set_threads(settings.gpu_threads)
    post: dict[str, Any] = {
        "threshold": settings.threshold,
        "min_speck_area": settings.min_speck_area,
        "max_hole_area": settings.max_hole_area,
    }
    how = Prediction(**taken, **post, temperature=subject.temperature)
    predict = open_model(subject.weights, describe_machine(settings), how)
    evaluation = Evaluation(total=len(source.names), threshold=settings.threshold, pictures=out is not None)
    with show_progress() as bar:
        shown = bar.add_task("Evaluating", total=len(source.names))
        for look in evaluate_cases(source.read(lambda: bar.advance(shown)), predict=predict):
            evaluation.add(look)
    tell_findings(source.unread)
    if not evaluation.results:
        raise CommandError("none of the images could be read; see above")
    summary = evaluation.summary()
    skipped = [finding.to_dict() for finding in (*source.findings, *source.unread)]
    images = len({result.name for result in evaluation.results})
    about = {**about, **asdict(how), "images": images, "skipped": len(skipped)}
    written = [] if out is None else write_report(out, evaluation, summary, title=source.title, about=about)
    if as_json:
        dice = {label: figures["dice"]["mean"] for label, figures in summary.items()}
        told = {"images": images, "dice": dice, "labels": summary, "about": about, "skipped": skipped}
        print_json({**told, "files": [str(path) for path in written]})
        return
    to_text(summary, say=print)
    if written:
        print(f"Written: {', '.join(str(path) for path in written)}")


def lint_dataset(dataset: DatasetArgument, as_json: JsonOption = False) -> None:
    """Look for what spoils figures: missing files, double rows, pictures in two splits, prompts that tell the answer.

    Exit code 1 when there is a problem; notes are only to be known.
    """
    from maskloop_learner.data.lint import lint_dataset as lint

    opened = open_dataset(dataset)
    with plain_errors(), show_progress() as bar:
        shown = bar.add_task("Reading files", total=None)
        report = lint(opened, on_file=lambda done, total: bar.update(shown, completed=done, total=total))
    if as_json:
        print_json(report.to_dict())
    else:
        table = Table(title=f"{report.dataset}: {len(report.sheets)} sheets")
        for name in ("sheet", "rows", "with files", "distinct prompts", "say where"):
            table.add_column(name, justify="left" if name == "sheet" else "right")
        for facts in report.sheets:
            counts = (facts.rows, facts.usable, facts.prompts)
            table.add_row(facts.sheet, *(str(count) for count in counts), f"{facts.location_share:.0%}")
        Console().print(table)
        tell_findings(report.findings)
        problems = sum(finding.level == "problem" for finding in report.findings)
        print(f"{problems} problems, {len(report.findings) - problems} notes.", file=sys.stderr)
    if not report.healthy:
        raise typer.Exit(1)
