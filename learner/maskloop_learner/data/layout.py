"""Data sets in MedCLIPSeg's folder layout.

NAME/Prompts_Folder/{Train_text,Val_text}[_10|_25|_50].xlsx, Test_text_VARIANT.xlsx
NAME/{Train,Val,Test}_Folder/{img,label}        or flat, all splits together: NAME/{img,label}
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from maskloop_learner.data import DataError
from maskloop_learner.data.findings import Finding
from maskloop_learner.data.sheets import Row, Sheet, describe_twin, read_sheet

Split = Literal["train", "val", "test"]
Variant = Literal["original", "contradictory", "missing_location", "overdescriptive", "underdescriptive"]
SPLITS: tuple[Split, ...] = get_args(Split)
VARIANTS: tuple[Variant, ...] = get_args(Variant)
PERCENTAGES = (10, 25, 50, 100)
"""Of the training and validation rows; 100 is the whole sheet."""
PROMPTS_FOLDER = "Prompts_Folder"


class LayoutError(DataError):
    """A folder that is no such data set, or lacks the sheet that is asked for."""


@dataclass(frozen=True)
class Item:
    """A row whose two files are there."""

    name: str
    """The image's file name."""
    image: Path
    mask: Path
    prompt: str


@dataclass(frozen=True)
class Part:
    """What a sheet gives: the items that can be used, in its order, and why rows give none."""

    sheet: Sheet
    items: tuple[Item, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Dataset:
    """A data set on disk. Nothing is read before it is asked for."""

    root: Path
    _listed: dict[Path, dict[str, Path]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, root: Path) -> "Dataset":
        """The data set in this folder. Raises LayoutError saying what is missing from the layout."""
        if not root.is_dir():
            raise LayoutError(f"the data set {str(root)!r} is no folder")
        dataset = cls(root)
        holds = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
        if not (root / PROMPTS_FOLDER).is_dir():
            raise LayoutError(f"{root}: there is no {PROMPTS_FOLDER} in it, but {holds}")
        if not any(dataset.folder(split).is_dir() for split in SPLITS):
            raise LayoutError(
                f"{root}: neither Train_Folder, Val_Folder, Test_Folder nor img and label are in it, but {holds}"
            )
        return dataset

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.root.absolute().name

    def folder(self, split: Split) -> Path:
        """Where the split's `img` and `label` are: its own folder, or the data set's when that is flat."""
        own = self.root / f"{split.title()}_Folder"
        return own if own.is_dir() or not (self.root / "img").is_dir() else self.root

    @cached_property
    def sheets(self) -> dict[str, Path]:
        """The workbooks of Prompts_Folder by name, without those that a spreadsheet program has open."""
        paths = sorted((self.root / PROMPTS_FOLDER).glob("*.xlsx"))
        return {path.stem: path for path in paths if not path.name.startswith("~$")}

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The prompt variants that the test split has."""
        return tuple(variant for variant in VARIANTS if f"Test_text_{variant}" in self.sheets)

    @property
    def percentages(self) -> tuple[int, ...]:
        """The shares of the training split that have a sheet."""
        return tuple(percent for percent in PERCENTAGES if sheet_name("train", percent=percent) in self.sheets)

    def read(self, split: Split, *, prompts: Variant = "original", percent: int = 100) -> Part:
        """The rows of one sheet with their files. A row without them is a finding.

        Raises LayoutError when there is no such sheet and SheetError when it cannot be read.
        """
        name = sheet_name(split, prompts=prompts, percent=percent)
        if name not in self.sheets:
            there = ", ".join(self.sheets) or "none"
            raise LayoutError(f"{self.root}: there is no {PROMPTS_FOLDER}/{name}.xlsx; the sheets are: {there}")
        return self.resolve(read_sheet(self.sheets[name]), split)

    def resolve(self, sheet: Sheet, split: Split) -> Part:
        """Find the files of a sheet's rows among those of a split."""
        items: list[Item] = []
        found = [Finding("no-name", f"line {line} has no image", sheet=sheet.path.stem) for line in sheet.nameless]
        for twin in sheet.twins:
            kind = "contradiction" if twin.fields else "repeated"
            told = f"{describe_twin(twin)}; the first is used"
            found.append(Finding(kind, told, sheet=sheet.path.stem, name=twin.first.image))
        for row in sheet.rows:
            problem = self._problem(row, split)
            if isinstance(problem, Item):
                items.append(problem)
            else:
                kind, told = problem
                told = f"line {row.line}, {row.image!r}: {told}"
                found.append(Finding(kind, told, sheet=sheet.path.stem, name=row.image))
        return Part(sheet, tuple(items), tuple(found))

    def _problem(self, row: Row, split: Split) -> Item | tuple[str, str]:
        if not row.prompt:
            return "empty-prompt", "the prompt is empty"
        folder = self.folder(split)
        paths = []
        for what, kind, name in (("img", "image", row.image), ("label", "mask", row.mask)):
            if not name or "/" in name or "\\" in name:
                return f"no-{kind}", f"the {kind}'s name {name!r} is no file name"
            path = self._find(folder / what, name)
            if path is None:
                return f"no-{kind}", f"there is no {kind} {name!r} in {folder / what}"
            paths.append(path)
        return Item(row.image, paths[0], paths[1], row.prompt)

    def _find(self, folder: Path, name: str) -> Path | None:
        """The file of this name; a name without suffix may be that of one image, whatever its suffix."""
        files = self._files(folder)
        if name in files or Path(name).suffix:
            return files.get(name)
        alike = [path for path in files.values() if path.stem == name]
        return alike[0] if len(alike) == 1 else None

    def _files(self, folder: Path) -> dict[str, Path]:
        # One listing instead of thousands of looks: these folders may lie on a network's disk.
        if folder not in self._listed:
            listed = {path.name: path for path in folder.iterdir() if path.is_file()} if folder.is_dir() else {}
            self._listed[folder] = listed
        return self._listed[folder]


def sheet_name(split: Split, *, prompts: Variant = "original", percent: int = 100) -> str:
    """The workbook's name without .xlsx. Raises LayoutError for what no data set has."""
    if percent not in PERCENTAGES:
        raise LayoutError(f"the share of the rows must be one of {_join(PERCENTAGES)} %, got {percent!r}")
    if prompts not in VARIANTS:
        raise LayoutError(f"the prompts must be one of {_join(VARIANTS)}, got {prompts!r}")
    if split not in SPLITS:
        raise LayoutError(f"the split must be one of {_join(SPLITS)}, got {split!r}")
    if split == "test":
        if percent != 100:
            raise LayoutError(f"the test split is always whole, got {percent} %")
        return f"Test_text_{prompts}"
    if prompts != "original":
        raise LayoutError(f"the {split} split has original prompts alone, got {prompts!r}")
    return f"{split.title()}_text" + ("" if percent == 100 else f"_{percent}")


def walk_sheets(dataset: Dataset) -> Iterator[tuple[str, Split]]:
    """The names of a data set's sheets and the split that each is of, in a fixed order; others are left out."""
    for split in SPLITS:
        if split == "test":
            names = [sheet_name(split, prompts=variant) for variant in VARIANTS]
        else:
            names = [sheet_name(split, percent=percent) for percent in reversed(PERCENTAGES)]
        yield from ((name, split) for name in names if name in dataset.sheets)


def _join(values: Sequence[object]) -> str:
    return ", ".join(str(value) for value in values)
