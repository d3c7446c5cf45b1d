"""What all formats of an export share: images and masks as files of good names, and the manifest."""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Self

from maskloop_backend.transfer.folders import MADE_BY, MANIFEST, Folder, dump
from maskloop_backend.transfer.known import KEY, ORIGIN
from maskloop_backend.transfer.labelled import Facts, Labelled, Row
from maskloop_backend.transfer.names import FileNames, label_folders, split_name
from maskloop_learner.pool.masks import Mask, MaskError, encode_mask
from maskloop_learner.pool.schema import utcnow
from maskloop_learner.pool.store import StoreError

Loaded = tuple[Row, bytes, dict[str, Mask]]


@dataclass
class Left:
    """What an export wrote and what it had to leave out."""

    written: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)


class Spool:
    """Rows of JSON kept on disk until the file that they belong into is written."""

    def __init__(self) -> None:
        self._file: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """One more row."""
        self._file.write(dump(row) + "\n")

    def __iter__(self) -> Iterator[str]:
        self._file.seek(0)
        return (line.rstrip("\n") for line in self._file)


def load_rows(labelled: Labelled, labels: Iterable[int], left: Left, on_row: Callable[[], None]) -> Iterator[Loaded]:
    """Rows with their image's bytes and masks, one by one; what cannot be read is left out with the reason."""
    for row in labelled.rows(list(labels)):
        try:
            data, masks = labelled.image(row), dict(labelled.masks(row))
            _check(row, masks)
        except (StoreError, MaskError) as error:
            left.left_out.append((f"task {row.task}, {row.name}", str(error)))
        else:
            left.written += 1
            yield row, data, masks
        on_row()


class Files:
    """Names and writes the images and masks of one folder of images."""

    def __init__(self, folder: Folder, labels: Iterable[str], *, images: str, masks: str) -> None:
        self.folder, self.images, self.mask_folder = folder, images, masks
        self.folders = label_folders(labels)
        self._names = FileNames()

    def image(self, row: Row, data: bytes) -> str:
        """Write an image; returns its path within the export."""
        return self._put(f"{self.images}/{self._names.take(row.name, row.format)}", data)

    def masks(self, image: str, masks: Mapping[str, Mask]) -> dict[str, str]:
        """Write an image's masks as PNG of 0 and 255; returns label -> path within the export."""
        stem = split_name(image.rsplit("/", 1)[-1])[0]
        return {
            label: self._put(f"{self.mask_folder}/{self.folders[label]}/{stem}.png", encode_mask(mask))
            for label, mask in masks.items()
        }

    def _put(self, name: str, data: bytes) -> str:
        self.folder.write(name, data)
        return name


def describe(row: Row, file: str, masks: Mapping[str, str] | None, folder: Folder) -> dict[str, Any]:
    """The manifest's item of a row. `masks`: label -> file, where masks are files."""
    item: dict[str, Any] = {
        "file": file,
        "sha256": folder.digests[file],
        "width": row.width,
        "height": row.height,
        "split": row.split,
        "labels": list(row.masks),
        "known": None if row.known is None else list(row.known),
        "task": row.task,
        "annotation": row.annotation,
        "version": row.version,
        "author": row.author,
        "annotated_at": row.annotated_at.isoformat(),
        "lead_time": row.lead_time,
        "batch": row.batch,
        "strategy": row.strategy,
        "name": row.name,
        "prompt": prompt_of(row),
        "origin": row.data.get(ORIGIN),
        "import_key": row.data.get(KEY),
    }
    if masks is None:
        return {**item, "masks": {label: {"sha256": digest} for label, digest in row.masks.items()}}
    files = {label: {"file": name, "sha256": folder.digests[name]} for label, name in masks.items()}
    return {**item, "masks": files}


def prompt_of(row: Row) -> str | None:
    """The prompt that came with the image, if one did."""
    prompt = row.data.get("prompt")
    return prompt if isinstance(prompt, str) and prompt else None


def write_manifest(
    folder: Folder, facts: Facts, form: str, items: Iterable[str], left: Left, folders: Mapping[str, str]
) -> None:
    """manifest.json: the project, its labels and prompts, and where each image and mask came from."""
    head = {
        "made_by": MADE_BY,
        "format": form,
        "exported_at": utcnow().isoformat(timespec="seconds"),
        "project": {"id": facts.project, "title": facts.title, "label_studio": facts.url},
        "labels": list(facts.labels),
        "folders": dict(folders),
        "prompts": dict(facts.prompts),
        "split_frozen": facts.frozen,
        "left_out": [{"name": name, "reason": reason} for name, reason in left.left_out],
    }
    with folder.rows(MANIFEST) as file:
        file.text(json.dumps(head, ensure_ascii=False, indent=1)[:-2] + ',\n "items": ')
        file.array(iter(items))
        file.text("}\n")


def _check(row: Row, masks: Mapping[str, Mask]) -> None:
    """Raises MaskError when a mask does not fit its image."""
    for label, mask in masks.items():
        if mask.shape != (row.height, row.width):
            raise MaskError(
                f"the mask of {label} has {mask.shape[1]} x {mask.shape[0]} pixels, not {row.width} x {row.height}"
            )
