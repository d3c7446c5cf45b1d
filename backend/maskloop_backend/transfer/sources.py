"""What every way in gives: entries, each an image file (or an address) with the way to its masks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskloop_backend.transfer import TransferError
from maskloop_backend.transfer.pictures import Picture
from maskloop_learner.pool.masks import Mask

Masks = Mapping[str, Mask]
Labelled = tuple[Picture, Masks | None]
"""A picture and its masks by label; None: nobody has labelled it. A label without a pixel is known to be absent."""
Labeller = Callable[[Iterator[Picture]], Iterator[Labelled]]
"""Gives the pictures of a file their masks, one by one. Raises Refused."""

NOT_IMAGES = {
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".rst", ".xlsx", ".xls", ".ods", ".xml", ".html", ".pdf"),
    *(".yaml", ".yml", ".toml", ".ini", ".log", ".py", ".ipynb", ".sh", ".sha256", ".md5", ".zip", ".tar", ".db"),
}
"""Suffixes of files that lie beside images and are passed over; all others are looked into."""


def unlabelled(pictures: Iterator[Picture]) -> Iterator[Labelled]:
    """Pictures without masks."""
    return ((picture, None) for picture in pictures)


@dataclass(frozen=True)
class Entry:
    """One file of a source, or one address of an image elsewhere."""

    name: str
    """As the summary calls it: a path within the source, or the address."""
    path: Path | None = None
    """None: `name` is an address."""
    label: Labeller = unlabelled
    fields: Mapping[str, str] = field(default_factory=dict)
    """More fields of the task, for instance its prompt."""


@dataclass(frozen=True)
class Source:
    """What is to be imported. Nothing but names was read yet."""

    title: str
    entries: Sequence[Entry]
    refused: Sequence[tuple[str, str]] = ()
    """(name, reason) of what gives no entry."""
    skipped: Sequence[tuple[str, str]] = ()
    """(name, reason) of what is passed over."""


def list_files(folder: Path, *, without: Sequence[Path] = ()) -> tuple[list[Path], list[tuple[str, str]]]:
    """Files in a folder and the folders in it that may be images, in order, and (name, reason) of the others.

    Hidden ones (.name) and those in the folders `without` are left out.
    """
    files: list[Path] = []
    others: list[tuple[str, str]] = []
    for path in _walk(folder):
        if any(path.is_relative_to(other) for other in without):
            continue
        if path.suffix.lower() in NOT_IMAGES:
            others.append((relative_name(path, folder), f"a {path.suffix} file is no image"))
        else:
            files.append(path)
    return files, others


def is_file(path: Path) -> bool:
    """Whether a file of this name is there; a name that no file system takes names none."""
    try:
        return path.is_file()
    except OSError:
        return False


def relative_name(path: Path, folder: Path) -> str:
    """A file's path within a folder, with / on every system."""
    return path.relative_to(folder).as_posix()


def _walk(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All files below a folder in a fixed order; links are followed, but not in circles."""
    try:
        real = folder.resolve()
        paths = [] if real in above else sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise TransferError(f"the folder {folder} cannot be read ({error.strerror or error})") from error
    for path in paths:
        if path.name.startswith(".") or path.name == "__MACOSX":
            continue
        if path.is_dir():
            yield from _walk(path, above | {real})
        elif path.is_file():
            yield path
