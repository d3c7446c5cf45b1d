"""The folder of an export: whole or not at all, and never over anything that is not an export."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from maskloop_backend.transfer import TransferError

MANIFEST = "manifest.json"
MADE_BY = "maskloop export"


class Folder:
    """A folder being filled; knows the digest of each file in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.digests: dict[str, str] = {}
        """Path within the folder, with /, -> sha256."""

    def write(self, name: str, data: bytes) -> str:
        """Write a file; returns its sha256."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.digests[name] = hashlib.sha256(data).hexdigest()
        return self.digests[name]

    @contextmanager
    def rows(self, name: str) -> Iterator["Rows"]:
        """A file that is written row by row."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="\n") as file:
            yield Rows(file)
        with path.open("rb") as file:
            self.digests[name] = hashlib.file_digest(file, "sha256").hexdigest()


class Rows:
    """JSON written piece by piece, so that ten thousand images are never in memory together."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def line(self, row: dict[str, Any]) -> None:
        """A row of JSON lines."""
        self.file.write(dump(row) + "\n")

    def text(self, text: str) -> None:
        """Text as it is."""
        self.file.write(text)

    def array(self, rows: Iterator[str]) -> None:
        """A JSON array of rows that are JSON already, one a line."""
        self.file.write("[")
        mark = "\n"
        for row in rows:
            self.file.write(mark + row)
            mark = ",\n"
        self.file.write("\n]")


def dump(value: Any) -> str:
    """JSON on one line, letters of any script as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "), allow_nan=False)


@contextmanager
def fill_folder(target: Path, *, overwrite: bool) -> Iterator[Folder]:
    """A folder beside `target` that takes its place at the end; after an error it is gone and `target` unchanged.

    Raises TransferError when `target` has something in it; with `overwrite`, when that is no earlier export.
    """
    target = target.absolute()
    _check_target(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{target.name}.{uuid4().hex[:8]}.partial"
    partial.mkdir()
    try:
        yield Folder(partial)
        _check_target(target, overwrite)
        if target.exists():
            old = partial.with_suffix(".old")
            os.rename(target, old)
            try:
                os.rename(partial, target)
            except OSError:
                os.rename(old, target)
                raise
            shutil.rmtree(old)
        else:
            os.rename(partial, target)
    finally:
        if partial.exists():
            shutil.rmtree(partial)


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise TransferError(f"{target} is a file; name a folder that is not there yet")
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise TransferError(f"the folder {target} is not empty; name another one, or replace it with --overwrite")
    try:
        known = json.loads((target / MANIFEST).read_text(encoding="utf-8")).get("made_by") == MADE_BY
    except (OSError, ValueError, AttributeError):
        known = False
    if not known:
        raise TransferError(f"the folder {target} is no export of Maskloop's (no {MANIFEST}), so it is not replaced")
