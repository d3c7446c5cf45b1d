"""Data sets in MedCLIPSeg's layout: every row of its sheets an image with its mask and its prompt."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from maskloop_backend.transfer.pairs import check_alone, check_size
from maskloop_backend.transfer.pictures import Picture
from maskloop_backend.transfer.rasters import read_bytes, read_mask
from maskloop_backend.transfer.sources import Entry, Labelled, Source
from maskloop_learner.data.layout import SPLITS, Dataset, LayoutError, sheet_name

PASSED = {"contradiction", "repeated"}
"""Findings of rows whose image is taken from an earlier row."""


@dataclass(frozen=True)
class Masked:
    """Gives the picture of a file one mask of one label."""

    mask: Path
    label: str

    def __call__(self, pictures: Iterator[Picture]) -> Iterator[Labelled]:
        for picture in pictures:
            check_alone(picture, self.mask.name)
            mask = read_mask(read_bytes(self.mask), self.mask.name)
            check_size(mask, picture, self.mask.name)
            yield picture, {self.label: mask}


def find_rows(root: Path, *, label: str) -> Source:
    """The rows of the whole training, validation and test sheets. Raises DataError."""
    dataset = Dataset.open(root)
    splits = [split for split in SPLITS if sheet_name(split) in dataset.sheets]
    if not splits:
        raise LayoutError(f"{root}: has none of the sheets {', '.join(sheet_name(split) for split in SPLITS)}")
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    skipped: list[tuple[str, str]] = []
    for split in splits:
        part = dataset.read(split)
        for item in part.items:
            name = item.image.relative_to(root).as_posix()
            entries.append(Entry(name, item.image, Masked(item.mask, label), {"prompt": item.prompt, "split": split}))
        for finding in part.findings:
            told = (f"{finding.sheet}: {finding.name or 'a row'}", finding.message)
            (skipped if finding.kind in PASSED else refused).append(told)
    return Source(f"{dataset.name} (MedCLIPSeg's layout)", entries, refused, skipped)
