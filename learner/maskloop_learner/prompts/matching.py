"""Which row of a prompt sheet belongs to which task: by file name, as exactly as it can be had."""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from maskloop_learner.data.sheets import Row

FIELDS = ("name", "file", "filename", "file_name", "image_name")
"""Fields of a task's data that may hold the image's file name; `origin.file` too."""
UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""


@dataclass(frozen=True)
class Matches:
    """Rows and the tasks that they are of."""

    rows: dict[int, Row]
    """Task -> its row. One row may be of several tasks that show the same image."""
    unmatched: tuple[Row, ...]
    """Rows of which there is no task."""
    lacking: tuple[int, ...]
    """Tasks of which there is no row."""
    unclear: dict[int, tuple[Row, ...]]
    """Task -> the rows that fit it equally well; none of them is taken."""


def task_names(url: str, data: Mapping[str, object]) -> tuple[str, ...]:
    """File names that a task's image may be known by: those in its data, then its address's, without upload prefix
    last."""
    origin = data.get("origin")
    kept = [data.get(field) for field in FIELDS] + [data.get("origin.file")]
    kept.append(origin.get("file") if isinstance(origin, Mapping) else None)
    address = url if not url.startswith("data:") else ""
    try:
        parts = urlsplit(address)
    except ValueError:
        path = address
    else:
        # Label Studio's local files: the path is in the query.
        path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    names = [base_name(name) for name in (*kept, path) if isinstance(name, str)]
    return tuple(dict.fromkeys(name for name in (*names, *(UPLOAD.sub("", name) for name in names)) if name))


def match_rows(rows: Sequence[Row], tasks: Mapping[int, Sequence[str]]) -> Matches:
    """Join rows and tasks (task -> file names). Rows must be of distinct images, as `read_sheet` gives them.

    First by the whole name, then without extension, then both without regard to case and to what Label Studio changes
    in names of uploads. A row that a stricter way has given to a task is given to no other by a looser one.
    """
    found: dict[int, Row] = {}
    unclear: dict[int, tuple[Row, ...]] = {}
    free = list(rows)
    for key in (base_name, stem, plain_name, lambda name: plain_name(stem(name))):
        index = _index(free, key)
        for task, names in tasks.items():
            if task in found or task in unclear:
                continue
            for name in names:
                fitting = index.get(key(name), ())
                if len(fitting) == 1:
                    found[task] = fitting[0]
                elif fitting:
                    unclear[task] = tuple(fitting)
                if fitting:
                    break
        taken = {row.image for row in found.values()} | {row.image for each in unclear.values() for row in each}
        free = [row for row in free if row.image not in taken]
    lacking = tuple(task for task in tasks if task not in found and task not in unclear)
    return Matches(found, tuple(free), lacking, unclear)


def base_name(path: str) -> str:
    """The file's name without folders of either kind of slash."""
    return posixpath.basename(path.strip().replace("\\", "/"))


def stem(name: str) -> str:
    """The name without its extension; a name of an extension alone stays."""
    return posixpath.splitext(base_name(name))[0]


def plain_name(name: str) -> str:
    """The name as Label Studio stores it: blanks as underscores, other special characters left out; in lower case."""
    return re.sub(r"[^\w.-]", "", base_name(name).replace(" ", "_")).casefold()


def _index(rows: Sequence[Row], key: Callable[[str], str]) -> dict[str, list[Row]]:
    index: dict[str, list[Row]] = {}
    for row in rows:
        index.setdefault(key(row.image), []).append(row)
    return index
