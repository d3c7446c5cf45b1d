"""COCO data sets: an instances file beside its images."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.transfer import Refused, TransferError
from maskloop_backend.transfer.coco_masks import decode_segmentation
from maskloop_backend.transfer.labels import check_labels
from maskloop_backend.transfer.pairs import check_alone
from maskloop_backend.transfer.pictures import Picture
from maskloop_backend.transfer.sources import Entry, Labelled, Source, is_file
from maskloop_learner.pool.masks import Mask

LABELLED = "labelled"
"""Field of an image's row with which Maskloop's own exports tell an image without anything from an unlabelled one."""


def find_annotations(folder: Path) -> list[Path]:
    """The instances files of a folder and of `annotations` in it, under their usual names."""
    return [
        path
        for place in (folder, folder / "annotations")
        if place.is_dir()
        for path in sorted(place.glob("*.json"))
        if path.name.startswith("instances") or path.name in ("_annotations.coco.json", "annotations.json", "coco.json")
    ]


def find_coco(folder: Path, annotations: Path, *, interface: Interface, complete: bool) -> Source:
    """The images of an instances file, looked for in `folder` and its `images`.

    complete: an image without an annotation is labelled as having nothing. Raises TransferError when the file is
    no instances file, or a category is no label of the project.
    """
    data = _read(annotations)
    categories = _rows(data, "categories", annotations)
    names = {_hashable(row.get("id")): str(row.get("name")) for row in categories}
    drawn: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for row in _rows(data, "annotations", annotations):
        drawn[_hashable(row.get("image_id"))].append(row)
    used = {_hashable(row.get("category_id")) for rows in drawn.values() for row in rows}
    labels = tuple(name for number, name in names.items() if number in used)
    check_labels(labels, interface, f"the categories of {annotations.name}")
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    seen: set[Any] = set()
    images = _rows(data, "images", annotations)
    listed = {_hashable(row.get("id")) for row in images}
    for row in images:
        name, number = row.get("file_name"), _hashable(row.get("id"))
        shown = str(name or f"image {number!r}")
        path = _find(folder, name)
        if path is None:
            refused.append((shown, f"there is no file {name!r} in {folder}"))
        elif number in seen:
            refused.append((shown, f"its id {number!r} is another image's as well"))
        else:
            seen.add(number)
            rows = tuple(drawn.get(number, ()))
            known = bool(rows) or complete or row.get(LABELLED) is True
            size = (row.get("width"), row.get("height"))
            entries.append(Entry(shown, path, Drawn(rows, names, size, known)))
    refused += [(f"image {number!r}", "has annotations, but no row in images") for number in drawn.keys() - listed]
    return Source(f"{annotations.name} (COCO)", entries, refused)


@dataclass(frozen=True)
class Drawn:
    """Gives an image the masks of its annotations: those of one label united."""

    rows: Sequence[Mapping[str, Any]]
    names: Mapping[Any, str]
    size: tuple[object, object]
    """Width and height as the file says; None: it does not."""
    known: bool

    def __call__(self, pictures: Iterator[Picture]) -> Iterator[Labelled]:
        for picture in pictures:
            told = tuple(side for side in self.size if side is not None)
            if told and told != (picture.width, picture.height):
                raise Refused(
                    f"is {picture.width} x {picture.height} pixels as shown, the COCO file says "
                    f"{self.size[0]!r} x {self.size[1]!r}; was it turned or scaled?"
                )
            if self.rows:
                check_alone(picture, "its annotation")
            yield picture, self._masks(picture) if self.known else None

    def _masks(self, picture: Picture) -> dict[str, Mask]:
        masks: dict[str, Mask] = {}
        for row in self.rows:
            label = self.names.get(_hashable(row.get("category_id")))
            if label is None:
                raise Refused(f"annotation {row.get('id')!r}: its category {row.get('category_id')!r} does not exist")
            try:
                mask = decode_segmentation(row.get("segmentation"), width=picture.width, height=picture.height)
            except Refused as error:
                raise Refused(f"annotation {row.get('id')!r}: {error}") from error
            masks[label] = np.asarray(masks[label] | mask) if label in masks else mask
        return masks


def _read(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TransferError(f"{path}: is no JSON that can be read ({error}); give COCO's instances file") from error
    if not isinstance(data, dict):
        raise TransferError(f"{path}: holds a {type(data).__name__}; give COCO's instances file")
    return data


def _rows(data: Mapping[str, Any], key: str, path: Path) -> list[Mapping[str, Any]]:
    rows = data.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TransferError(f"{path}: has no list {key!r} of objects; give COCO's instances file")
    return rows


def _find(folder: Path, name: object) -> Path | None:
    """The image of this name; never a file outside the folder, wherever the name points."""
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    root = folder.resolve()
    for place in (folder / name, folder / "images" / name):
        resolved = place.resolve()
        if is_file(resolved) and resolved.is_relative_to(root):
            return place
    return None


def _hashable(value: object) -> object:
    return value if isinstance(value, int | str) else repr(value)
