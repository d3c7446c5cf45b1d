"""Lists: addresses of images that lie elsewhere, and fields that belong to files."""

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from maskloop_backend.transfer import TransferError
from maskloop_backend.transfer.sources import Entry, Source

ADDRESS = re.compile(r"(https?|s3|gs|azure-blob)://\S|/data/(local-files/\?d=|upload/)\S", re.IGNORECASE)
ADDRESS_COLUMNS = ("image", "url", "address", "image_url", "file_name")
SUFFIXES = {".csv", ".tsv", ".txt"}


def find_addresses(path: Path, *, data_key: str) -> Source:
    """The images whose addresses a file lists: one a line, or in a column of a CSV whose others become fields.

    The column is called like the field of the label config, else image, url or address. Raises TransferError.
    """
    lines = _read_lines(path)
    first = next((line for line in lines if line.strip()), "")
    if path.suffix.lower() == ".txt" or _is_address(first):
        rows: list[tuple[str, Mapping[str, str]]] = [(line.strip(), {}) for line in lines if line.strip()]
    else:
        table, header = _read_table(path, lines)
        column = next((name for name in (data_key, *ADDRESS_COLUMNS) if name in header), None)
        if column is None:
            raise TransferError(
                f"{path}: has no column {data_key!r} (nor image, url, address), but {', '.join(header)}"
            )
        rows = [(row[column], {name: text for name, text in row.items() if name != column and text}) for row in table]
    entries = [Entry(address, None, fields=fields) for address, fields in rows if _is_address(address)]
    refused = [
        (
            address or "a row without an address",
            "is no address that Label Studio can show; give http(s)://, s3://, gs:// or /data/local-files/?d=...",
        )
        for address, _ in rows
        if not _is_address(address)
    ]
    return Source(f"{path.name} (addresses)", entries, refused=refused)


def read_fields(path: Path, *, taken: Iterable[str]) -> dict[str, dict[str, str]]:
    """Fields of a CSV by the file name in its first column. Raises TransferError, also for columns of `taken`."""
    table, header = _read_table(path, _read_lines(path))
    clash = sorted(set(header[1:]) & set(taken))
    if clash:
        raise TransferError(f"{path}: the column {clash[0]!r} is a field that the import writes itself; rename it")
    fields: dict[str, dict[str, str]] = {}
    for row in table:
        name = row[header[0]]
        if name in fields:
            raise TransferError(f"{path}: {name!r} is there twice; keep one row for each file")
        fields[name] = {key: text for key, text in row.items() if key != header[0] and text}
    return fields


def _is_address(text: str) -> bool:
    return ADDRESS.match(text) is not None


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TransferError(f"{path}: cannot be read as UTF-8 text ({error})") from error


def _read_table(path: Path, lines: list[str]) -> tuple[list[dict[str, str]], list[str]]:
    """Rows of a table with a header, separated by the first of tab, semicolon and comma that the header has."""
    header = next((line for line in lines if line.strip()), "")
    mark = next((mark for mark in "\t;," if mark in header), ",")
    try:
        reader = csv.reader(lines, delimiter=mark, strict=True)
        cells = [[cell.strip() for cell in row] for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise TransferError(f"{path}: is no table ({error}); save it as CSV") from error
    if not cells or not all(cells[0]) or len(set(cells[0])) < len(cells[0]):
        raise TransferError(f"{path}: the first line must name the columns, each once")
    for number, row in enumerate(cells[1:], 2):
        if len(row) > len(cells[0]):
            raise TransferError(f"{path}: row {number} has {len(row)} cells, the header {len(cells[0])}")
    return [dict(zip(cells[0], row + [""] * (len(cells[0]) - len(row)), strict=True)) for row in cells[1:]], cells[0]
