"""Writes a project's labels into a folder, in one of the formats, for all annotators together or each alone."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from maskloop_backend.transfer.export_coco import write_coco
from maskloop_backend.transfer.export_files import Left
from maskloop_backend.transfer.export_huggingface import write_huggingface
from maskloop_backend.transfer.export_pairs import write_pairs
from maskloop_backend.transfer.folders import MADE_BY, MANIFEST, Folder, fill_folder
from maskloop_backend.transfer.labelled import Labelled
from maskloop_backend.transfer.names import label_folders

ExportFormat = Literal["pairs", "coco", "huggingface"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
Writer = Callable[[Folder, Labelled, Sequence[int], Callable[[], None]], Left]
WRITERS: dict[ExportFormat, Writer] = {"pairs": write_pairs, "coco": write_coco, "huggingface": write_huggingface}


def plan(labelled: Labelled, *, all_annotators: bool) -> dict[str, list[int]]:
    """Folder within the export ("": itself) -> ids of the labels in it. Raises TransferError when there are none."""
    if not all_annotators:
        return {"": labelled.find()}
    found = labelled.by_author()
    return {folder: found[author] for author, folder in label_folders(found).items()}


def write_export(
    target: Path,
    labelled: Labelled,
    planned: dict[str, list[int]],
    *,
    form: ExportFormat,
    overwrite: bool,
    on_row: Callable[[], None],
) -> Left:
    """Write a planned export. Raises TransferError about the target; what cannot be read is in the result."""
    total = Left()
    with fill_folder(target, overwrite=overwrite) as folder:
        for inner, labels in planned.items():
            part = WRITERS[form](Folder(folder.root / inner), labelled, labels, on_row)
            total.written += part.written
            total.left_out += part.left_out
        if "" not in planned:
            head = {"made_by": MADE_BY, "format": form, "annotators": sorted(planned)}
            folder.write(MANIFEST, (json.dumps(head, indent=1, ensure_ascii=False) + "\n").encode())
    return total
