"""Which way in a folder or file is, by what lies in it, unless the person says so."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.transfer import WrongCall
from maskloop_backend.transfer.coco import find_annotations, find_coco
from maskloop_backend.transfer.converting import Options
from maskloop_backend.transfer.huggingface import find_folder, find_metadata
from maskloop_backend.transfer.labels import Naming, check_labels
from maskloop_backend.transfer.lists import SUFFIXES, find_addresses
from maskloop_backend.transfer.medclipseg import find_rows
from maskloop_backend.transfer.pairs import find_pairs
from maskloop_backend.transfer.sources import Entry, Source, list_files, relative_name
from maskloop_learner.data.layout import PROMPTS_FOLDER

Format = Literal["pairs", "medclipseg", "coco", "huggingface", "images", "list"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True)
class Request:
    """What a person asked to import."""

    source: Path
    format: Format | None = None
    masks: Path | None = None
    annotations: Path | None = None
    naming: Naming = field(default_factory=Naming)
    complete: bool = False


def recognise(request: Request) -> Format:
    """The way in. Raises WrongCall when the options fit none."""
    source = request.source
    if source.is_file() and source.suffix.lower() in SUFFIXES:
        return "list"
    if request.format is not None:
        return request.format
    if request.masks is not None:
        return "pairs"
    if request.annotations is not None:
        return "coco"
    if source.is_file():
        return "images"
    if (source / PROMPTS_FOLDER).is_dir():
        return "medclipseg"
    if find_metadata(source):
        return "huggingface"
    if find_annotations(source):
        return "coco"
    return "pairs" if (source / "images").is_dir() and (source / "masks").is_dir() else "images"


def choose_source(request: Request, *, interface: Interface, data_key: str, options: Options) -> Source:
    """What is to be imported, with its labels checked. Raises WrongCall, TransferError or DataError."""
    source, naming = request.source, request.naming
    check_labels(naming.used, interface, "--label" if naming.label else "--values")
    way = recognise(request)
    _refuse_idle_options(request, way)
    if way == "list":
        return find_addresses(source, data_key=data_key)
    if way == "medclipseg":
        return find_rows(source, label=_one_label(interface, naming))
    if way == "huggingface":
        return find_folder(source, interface=interface)
    if way == "coco":
        found = [request.annotations] if request.annotations else find_annotations(source)
        if len(found) != 1:
            there = ", ".join(path.name for path in found) or "none"
            raise WrongCall(f"{source} must have one instances*.json, it has {there}; give it with --annotations FILE")
        return find_coco(source, found[0], interface=interface, complete=request.complete)
    if way == "pairs":
        inner = (source / "images").is_dir() and (source / "masks").is_dir()
        masks = request.masks or (source / "masks" if inner else None)
        if masks is None:
            raise WrongCall(f"{source} has no folders images and masks; give the masks with --masks DIR")
        images = source / "images" if inner and masks == source / "masks" else source
        return find_pairs(images, masks, interface=interface, naming=naming, options=options)
    return _images(source)


def _images(source: Path) -> Source:
    if source.is_file():
        return Source(source.name, [Entry(source.name, source)])
    files, skipped = list_files(source)
    return Source(
        f"{source.name} (images)", [Entry(relative_name(path, source), path) for path in files], skipped=skipped
    )


def _one_label(interface: Interface, naming: Naming) -> str:
    if naming.label:
        return naming.label
    if len(interface.labels) == 1:
        return interface.labels[0]
    raise WrongCall(f"the masks are of one label; say with --label which: {', '.join(interface.labels)}")


def _refuse_idle_options(request: Request, way: Format) -> None:
    """Raises WrongCall for an option that the way in does not read: a person who gave it means something by it."""
    naming = request.naming
    idle = {
        "--masks": request.masks is not None and way != "pairs",
        "--annotations": request.annotations is not None and way != "coco",
        "--complete": request.complete and way != "coco",
        "--label": naming.label is not None and way not in ("pairs", "medclipseg"),
        "--values": bool(naming.values) and way != "pairs",
    }
    for option, given in idle.items():
        if given:
            raise WrongCall(f"{option} means nothing for {request.source.name}, which is read as {way!r}; see --format")
    if request.source.is_file() and way not in ("list", "images"):
        raise WrongCall(f"{request.source} is a file; {way!r} is read from a folder")
