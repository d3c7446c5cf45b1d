"""Prompt workbooks (.xlsx): one row an image, with its prompt and the name of its mask.

Published workbooks differ: the mask's column has two names, sheets are empty or hold a header alone, prompts
end with a line break, rows come twice, names are stored as numbers. All of that is read; what is no row is told.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from python_calamine import CalamineError, load_workbook

from maskloop_learner.data import DataError

COLUMNS = {"image": ("Image",), "prompt": ("Description", "Prompt"), "mask": ("Ground Truth", "Mask")}
"""The header's names, without regard to case or white space; the first is what messages call it."""


class SheetError(DataError):
    """A workbook that is no table of prompts; the message names the file, what was found in it and what to do."""


@dataclass(frozen=True)
class Row:
    """An image, its mask (file names as written) and its prompt, white space tidied."""

    line: int
    """In the workbook, as a spreadsheet program numbers it: 1 is the first."""
    image: str
    mask: str
    prompt: str


@dataclass(frozen=True)
class Twin:
    """A row that was left out because an earlier one has the same image."""

    line: int
    first: Row
    fields: tuple[str, ...]
    """What differs: "prompt", "mask"; nothing when the rows are identical."""


@dataclass(frozen=True)
class Sheet:
    """A workbook's table. Every image is in `rows` once, in the order of the lines."""

    path: Path
    rows: tuple[Row, ...]
    twins: tuple[Twin, ...] = ()
    nameless: tuple[int, ...] = ()
    """Lines that have something in them, but no image."""

    @property
    def clashes(self) -> tuple[Twin, ...]:
        """Rows that contradict an earlier one."""
        return tuple(twin for twin in self.twins if twin.fields)


def read_sheet(path: Path, *, strict: bool = False) -> Sheet:
    """The table of prompts in a workbook; an empty sheet, or a header alone, has no rows.

    Of rows with one image the first stays; `strict` refuses those that contradict each other. Raises SheetError
    when the file cannot be read, when its header lacks a column, and when two sheets could be the table.
    """
    rows = _find_table(path)
    if not rows:
        return Sheet(path, ())
    places = _find_columns(rows[0][1])
    found: dict[str, Row] = {}
    twins: list[Twin] = []
    nameless: list[int] = []
    for line, cells in rows[1:]:
        fields = {name: cells[place] if place < len(cells) else "" for name, place in places.items()}
        if not any(fields.values()):
            continue
        if not fields["image"]:
            nameless.append(line)
            continue
        row = Row(line, **fields)
        first = found.setdefault(row.image, row)
        if first is not row:
            differing = tuple(name for name in ("prompt", "mask") if getattr(row, name) != getattr(first, name))
            twins.append(Twin(line, first, differing))
    sheet = Sheet(path, tuple(found.values()), tuple(twins), tuple(nameless))
    if strict and sheet.clashes:
        listed = "; ".join(describe_twin(twin) for twin in sheet.clashes)
        raise SheetError(f"{path}: rows contradict each other: {listed}; keep one row for each image")
    return sheet


def describe_twin(twin: Twin) -> str:
    """Which two lines have the same image, and what differs between them."""
    where = f"lines {twin.first.line} and {twin.line} are both of {twin.first.image!r}"
    return f"{where} with another {' and '.join(twin.fields)}" if twin.fields else f"{where} and identical"


def tidy(cell: object) -> str:
    """A cell as text: white space collapsed and stripped; a whole number without its decimals."""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return re.sub(r"\s+", " ", str(cell)).strip()


def _find_table(path: Path) -> list[tuple[int, list[str]]]:
    """Lines that are not blank, with their numbers, of the one sheet whose first such line is our header."""
    candidates: dict[str, list[tuple[int, list[str]]]] = {}
    headers: dict[str, list[str]] = {}
    for name, cells in _read_cells(path).items():
        texts = [[tidy(cell) for cell in row] for row in cells]
        lines = [(number, row) for number, row in enumerate(texts, 1) if any(row)]
        if not lines:
            continue
        headers[name] = lines[0][1]
        if set(_find_columns(lines[0][1])) == set(COLUMNS):
            candidates[name] = lines
    if len(candidates) > 1:
        raise SheetError(f"{path}: the sheets {_quote(list(candidates))} are all tables of prompts; keep one of them")
    if headers and not candidates:
        found = "; ".join(f"sheet {name!r} has {_quote(header)}" for name, header in headers.items())
        wanted = ", ".join(" or ".join(repr(alias) for alias in aliases) for aliases in COLUMNS.values())
        raise SheetError(f"{path}: the first line must name the columns {wanted}, once each; {found}")
    return next(iter(candidates.values()), [])


def _read_cells(path: Path) -> dict[str, list[list[object]]]:
    try:
        with load_workbook(path) as book:
            # The empty area counts: without it the line numbers are not those of the file.
            return {
                name: [list(row) for row in book.get_sheet_by_name(name).to_python(skip_empty_area=False)]
                for name in book.sheet_names
            }
    except (CalamineError, OSError) as error:
        raise SheetError(
            f"{path}: the workbook cannot be read ({error}); open it in a spreadsheet program and save it as .xlsx"
        ) from error


def _find_columns(header: Sequence[str]) -> dict[str, int]:
    """Where each column of COLUMNS is; one that is missing, or there twice, is left out."""
    known = {_plain(alias): name for name, aliases in COLUMNS.items() for alias in aliases}
    places: dict[str, list[int]] = {}
    for place, title in enumerate(header):
        if (name := known.get(_plain(title))) is not None:
            places.setdefault(name, []).append(place)
    return {name: found[0] for name, found in places.items() if len(found) == 1}


def _plain(title: str) -> str:
    return re.sub(r"[\s_]+", " ", title).strip().casefold()


def _quote(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names if name)
