"""Labels as an image folder in Hugging Face's style, with a data set card and checksums."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from maskloop_backend.transfer.card import write_card
from maskloop_backend.transfer.export_files import Files, Left, Spool, describe, load_rows, prompt_of, write_manifest
from maskloop_backend.transfer.folders import Folder
from maskloop_backend.transfer.huggingface import LABELS, MASKS, METADATA
from maskloop_backend.transfer.labelled import Labelled

CHECKSUMS = "checksums.sha256"


def write_huggingface(folder: Folder, labelled: Labelled, labels: Sequence[int], on_row: Callable[[], None]) -> Left:
    """data/SPLIT/NAME with its masks below data/SPLIT/masks and a row in data/SPLIT/metadata.jsonl."""
    facts, left = labelled.facts, Left()
    files: dict[str, Files] = {}
    counts: dict[str, int] = {}
    with Spool() as items, ExitStack() as stack:
        metadata = {}
        for row, data, masks in load_rows(labelled, labels, left, on_row):
            place = f"data/{row.split}"
            if row.split not in files:
                files[row.split] = Files(folder, facts.labels, images=place, masks=f"{place}/masks")
                metadata[row.split] = stack.enter_context(folder.rows(f"{place}/{METADATA}"))
            counts[row.split] = counts.get(row.split, 0) + 1
            image = files[row.split].image(row, data)
            drawn = files[row.split].masks(image, masks)
            items.add(describe(row, image, drawn, folder))
            metadata[row.split].line(
                {
                    "file_name": image.removeprefix(f"{place}/"),
                    MASKS: [name.removeprefix(f"{place}/") for name in drawn.values()],
                    LABELS: list(drawn),
                    "prompt": prompt_of(row),
                    "width": row.width,
                    "height": row.height,
                    "author": row.author,
                    "annotated_at": row.annotated_at.isoformat(timespec="seconds"),
                    "task": row.task,
                    "annotation": row.annotation,
                }
            )
        stack.close()
        folders = next(iter(files.values())).folders if files else {}
        write_manifest(folder, facts, "huggingface", items, left, folders)
    write_card(folder, facts, counts)
    lines = [f"{digest}  {name}\n" for name, digest in sorted(folder.digests.items())]
    folder.write(CHECKSUMS, "".join(lines).encode())
    return left
