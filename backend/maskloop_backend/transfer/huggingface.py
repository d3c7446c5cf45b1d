"""Image folders in Hugging Face's style with masks: metadata.jsonl beside the images of each split."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.transfer import TransferError
from maskloop_backend.transfer.labels import check_labels
from maskloop_backend.transfer.pairs import check_alone, check_size
from maskloop_backend.transfer.pictures import Picture
from maskloop_backend.transfer.rasters import read_bytes, read_mask
from maskloop_backend.transfer.sources import Entry, Labelled, Source, is_file
from maskloop_learner.pool.masks import Mask

METADATA = "metadata.jsonl"
MASKS, LABELS = "masks_file_names", "labels"
"""Columns of a row, as long as one another: files of masks and the labels that they are of."""


def find_metadata(folder: Path) -> list[Path]:
    """The metadata files of a data set's splits, or of the one folder that it is."""
    if (folder / METADATA).is_file():
        return [folder / METADATA]
    return sorted(folder.glob(f"data/*/{METADATA}"))


def find_folder(folder: Path, *, interface: Interface) -> Source:
    """The rows of all splits. Raises TransferError when a file is no such metadata, or a label is not the project's."""
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    labels: dict[str, None] = {}
    for path in find_metadata(folder):
        for number, row in _read(path):
            image = _find(path.parent, row.get("file_name"))
            names, masks = row.get(LABELS, []), row.get(MASKS, [])
            shown = str(row.get("file_name") or f"{path.parent.name}, line {number}")
            if image is None:
                refused.append((shown, f"there is no file {row.get('file_name')!r} in {path.parent}"))
                continue
            files = [_find(path.parent, name) for name in masks] if isinstance(masks, list) else [None]
            if not isinstance(names, list) or len(names) != len(files) or not all(isinstance(n, str) for n in names):
                refused.append((shown, f"{LABELS} and {MASKS} must be lists of the same length"))
                continue
            found = [file for file in files if file is not None]
            if len(found) < len(files):
                refused.append((shown, "a mask that it names is missing"))
                continue
            labels |= dict.fromkeys(names)
            prompt = row.get("prompt")
            fields = {"split": path.parent.name} | ({"prompt": prompt} if isinstance(prompt, str) and prompt else {})
            entries.append(Entry(shown, image, Listed(tuple(zip(names, found, strict=True))), fields))
    check_labels(labels, interface, f"the labels of {folder.name}")
    return Source(f"{folder.name} (image folder)", entries, refused)


@dataclass(frozen=True)
class Listed:
    """Gives the picture of a file the masks that its row lists."""

    files: tuple[tuple[str, Path], ...]

    def __call__(self, pictures: Iterator[Picture]) -> Iterator[Labelled]:
        for picture in pictures:
            masks: dict[str, Mask] = {}
            for label, path in self.files:
                check_alone(picture, path.name)
                mask = read_mask(read_bytes(path), path.name)
                check_size(mask, picture, path.name)
                masks[label] = np.asarray(masks[label] | mask) if label in masks else mask
            yield picture, masks if self.files else None


def _read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                raise TransferError(f"{path}: line {number} is no JSON ({error})") from error
            if not isinstance(row, dict):
                raise TransferError(f"{path}: line {number} holds a {type(row).__name__}, not an object")
            yield number, row


def _find(folder: Path, name: object) -> Path | None:
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    path = folder / name
    return path if is_file(path) and path.resolve().is_relative_to(folder.resolve()) else None
