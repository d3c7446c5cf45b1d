"""`maskloop import` and `maskloop export`: images and masks into Label Studio, labels out of the pool."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, cast

import typer

from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.cli.datasets import show_progress
from maskloop_backend.cli.errors import CommandError
from maskloop_backend.cli.transferred import show_reasons, show_report
from maskloop_backend.clients import Clients
from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.transfer import TransferError, WrongCall
from maskloop_backend.transfer.choosing import FORMATS, Format, Request, choose_source
from maskloop_backend.transfer.converting import Options, read_options
from maskloop_backend.transfer.drawing import read_interface
from maskloop_backend.transfer.exporting import EXPORT_FORMATS, plan, write_export
from maskloop_backend.transfer.journal import Journal
from maskloop_backend.transfer.known import KEY, ORIGIN, Known
from maskloop_backend.transfer.labelled import Labelled
from maskloop_backend.transfer.labels import read_naming
from maskloop_backend.transfer.lists import read_fields
from maskloop_backend.transfer.pictures import Limits
from maskloop_backend.transfer.report import Report
from maskloop_backend.transfer.sources import Source
from maskloop_backend.transfer.uploads import Importer, Target
from maskloop_learner.data import DataError
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project
from maskloop_learner.settings import Settings, get_settings

ProjectOption = Annotated[str | None, typer.Option("--project", help="Label Studio id or title of the project.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(name="import")(import_files)
    app.command(name="export")(export_labels)


def import_files(
    source: Annotated[Path, typer.Argument(exists=True, help="Folder or file of images, or a list of addresses.")],
    project: ProjectOption = None,
    masks: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Folder of masks, called like their images.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help=f"auto, {', '.join(FORMATS)}.")] = "auto",
    annotations: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="COCO's instances file.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="The label that all masks are of.")] = None,
    values: Annotated[str | None, typer.Option(help='Labels of the masks\' numbers: "1=Liver,2=Tumor".')] = None,
    complete: Annotated[
        bool, typer.Option("--complete", help="COCO: images without an annotation are labelled as having nothing.")
    ] = False,
    taken_as: Annotated[str, typer.Option("--as", help="Masks become labels or predictions.")] = "labels",
    fields: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="CSV of more fields; first column: file name.")
    ] = None,
    data_key: Annotated[
        str | None, typer.Option(help="Field of the image, when the label config shows several images.")
    ] = None,
    window: Annotated[str | None, typer.Option(help="Centre and width of the grey values shown: 40,400.")] = None,
    axis: Annotated[str, typer.Option(help="Slices of a NIfTI volume: axial, coronal or sagittal.")] = "axial",
    every: Annotated[int, typer.Option(min=1, help="Take each n-th slice, frame or page of a file.")] = 1,
    strip: Annotated[
        bool, typer.Option("--strip", help="Write PNG and JPEG anew, so that their pixels alone are uploaded.")
    ] = False,
    rename: Annotated[
        str | None, typer.Option(help="keep or digest: pictures called after their file, or after its digest.")
    ] = None,
    percentiles: Annotated[
        str | None, typer.Option(help="What is black and white where nothing says it: 0.5,99.5.")
    ] = None,
    burned_in: Annotated[
        bool, typer.Option("--allow-burned-in", help="Take DICOM that says that its pixels show who it is.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would happen and send nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring images, with the masks that they have, into a Label Studio project. Safe to repeat.

    Images become tasks, masks their labels. What a browser cannot show (DICOM, NIfTI, TIFF) is uploaded as PNG,
    with its origin and without the patient's data. Exit code 1 when a file was refused; its neighbours go on.
    """
    pool, settings = open_pool(), get_settings()
    with plain_errors():
        if taken_as not in ("labels", "predictions"):
            raise WrongCall(f"--as must be labels or predictions, got {taken_as!r}")
        options = read_options(
            settings,
            window=window,
            percentiles=percentiles,
            axis=axis,
            every=every,
            strip=strip,
            rename=rename,
            burned_in=burned_in,
        )
        naming = read_naming(label, values)
        request = Request(source, _format(form), masks, annotations, naming, complete)
        chosen = pick_project(pool, project)
        report, about = _import(
            pool,
            settings,
            chosen,
            request,
            options,
            fields,
            data_key,
            predictions=taken_as == "predictions",
            dry=dry_run,
        )
    if as_json:
        print_json({"project": chosen.ls_id, "source": about.title, "dry_run": dry_run, **report.to_dict()})
    else:
        show_report(report, about, chosen, dry=dry_run, noun=taken_as)
    if report.refused:
        raise typer.Exit(1)


def export_labels(
    folder: Annotated[Path, typer.Argument(help="Folder to make; it must not be there, or be empty.")],
    project: ProjectOption = None,
    form: Annotated[str, typer.Option("--format", help="pairs, coco or huggingface.")] = "pairs",
    all_annotators: Annotated[
        bool, typer.Option("--all-annotators", help="A folder for each annotator; else the newest label of a task.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a project's labels, with their images, as PNG pairs, COCO or an image folder for Hugging Face.

    Reads the pool alone: Label Studio may be down.
    """
    pool = open_pool()
    with plain_errors():
        if form not in EXPORT_FORMATS:
            raise WrongCall(f"--format must be one of {', '.join(EXPORT_FORMATS)}, got {form!r}")
        chosen = pick_project(pool, project)
        labelled = Labelled(pool, chosen)
        planned = plan(labelled, all_annotators=all_annotators)
        with show_progress() as progress:
            bar = progress.add_task("Exporting", total=sum(map(len, planned.values())))
            left = write_export(
                folder,
                labelled,
                planned,
                form=form,
                overwrite=overwrite,
                on_row=lambda: progress.advance(bar),
            )
    if as_json:
        told = [{"name": name, "reason": reason} for name, reason in left.left_out]
        print_json({"project": chosen.ls_id, "folder": str(folder), "labels": left.written, "left_out": told})
    else:
        print(f"{left.written} labelled images of project {chosen.ls_id} in {folder} ({form}).")
        show_reasons("Left out", left.left_out)
    if left.left_out:
        raise typer.Exit(1)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Wrong calls as the command line tells them, exit code 2; all else that is expected as one line."""
    try:
        yield
    except WrongCall as error:
        raise typer.BadParameter(str(error)) from error
    except (TransferError, DataError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        # a full disk, or a folder that may not be written
        raise CommandError(f"{error.filename or 'a file'}: {error.strerror or error}") from error


def _import(
    pool: Pool,
    settings: Settings,
    project: Project,
    request: Request,
    options: Options,
    fields: Path | None,
    data_key: str | None,
    *,
    predictions: bool,
    dry: bool,
) -> tuple[Report, Source]:
    client = Clients(settings.home).get(project.ls_url)
    interface = read_interface(client.project(project.ls_id).label_config)
    key = _data_key(interface, data_key)
    more = {} if fields is None else read_fields(fields, taken=(key, KEY, ORIGIN))
    interface = interface.on(key)
    source = choose_source(request, interface=interface, data_key=key, options=options)
    journal = Journal(settings.home / "imports" / f"{project.id}.json")
    with journal.alone(), show_progress() as progress:
        known = Known.read(client, project.ls_id, interface, data_key=key, pool=pool, pool_id=project.id)
        if not dry:
            journal.settle(known)
        target = Target(client, project.ls_id, interface, key, predictions, dry)
        limits = Limits(settings.max_image_megabytes, settings.max_image_megapixels)
        importer = Importer(target, known, journal, limits, options, more)
        bar = progress.add_task("Importing", total=len(source.entries))
        report = importer.run(source, on_entry=lambda: progress.advance(bar))
    return report, source


def _data_key(interface: Interface, wanted: str | None) -> str:
    keys = interface.data_keys
    if wanted is None and len(keys) == 1:
        return keys[0]
    if wanted not in keys:
        raise WrongCall(f"--data-key must be one of the label config's images: {', '.join(keys)}; got {wanted!r}")
    return wanted


def _format(text: str) -> Format | None:
    if text != "auto" and text not in FORMATS:
        raise WrongCall(f"--format must be auto or one of {', '.join(FORMATS)}, got {text!r}")
    return None if text == "auto" else cast(Format, text)
