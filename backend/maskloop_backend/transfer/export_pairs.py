"""Labels as pairs: images/NAME and masks/LABEL/NAME.png."""

from collections.abc import Callable, Sequence

from maskloop_backend.transfer.export_files import Files, Left, Spool, describe, load_rows, write_manifest
from maskloop_backend.transfer.folders import Folder
from maskloop_backend.transfer.labelled import Labelled


def write_pairs(folder: Folder, labelled: Labelled, labels: Sequence[int], on_row: Callable[[], None]) -> Left:
    """Every image with a mask of 0 and 255 for each label that was looked for, empty where nothing was drawn."""
    left, files = Left(), Files(folder, labelled.facts.labels, images="images", masks="masks")
    with Spool() as items:
        for row, data, masks in load_rows(labelled, labels, left, on_row):
            image = files.image(row, data)
            items.add(describe(row, image, files.masks(image, masks), folder))
        write_manifest(folder, labelled.facts, "pairs", items, left, files.folders)
    return left
