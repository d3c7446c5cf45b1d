"""Which images belong together: a patient, a case, a video; and which of them are annotated without a mask shown."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from sqlalchemy import case, exists, func, select
from sqlalchemy.orm import Session

from maskloop_learner.pool.pushes import mark_stale
from maskloop_learner.pool.schema import Label, Project, Task

LONGEST_KEY = 200
"""Characters of a group key that the pool keeps."""
LARGEST_BLIND_SHARE = 0.5
ROWS_AT_ONCE = 500
_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")
"""Label Studio puts it before the name of an uploaded file."""


class GroupingError(ValueError):
    """A rule that groups nothing; the message says what is wrong with it and what to do."""


def make_grouping(*, field: str | None = None, pattern: str | None = None, source: str | None = None) -> dict[str, Any]:
    """`Project.grouping` out of what a person typed. Raises GroupingError for two rules at once or a broken pattern.

    field, source: names in the tasks' data. pattern: a regular expression; its first group is the key, or all that it
    finds where it has no group.
    """
    if field and pattern:
        raise GroupingError(f"images are grouped by a field or by a pattern, got both: {field!r} and {pattern!r}")
    if pattern:
        try:
            re.compile(pattern)
        except re.error as error:
            raise GroupingError(
                f"the pattern {pattern!r} is no regular expression: {error}; "
                r'one that takes the patient out of "P012_slice3.png" is "^(P\d+)_"'
            ) from error
    given = {"field": field, "pattern": pattern, "source": source}
    return {name: value for name, value in given.items() if value}


def check_blind_share(share: float) -> float:
    """The share, if it is one of images to keep blind. Raises GroupingError beyond 0..0.5."""
    if not 0 <= share <= LARGEST_BLIND_SHARE:
        raise GroupingError(
            f"the blind share must be between 0 and {LARGEST_BLIND_SHARE:g}, got {share!r}: "
            "blind images are for validation, and most images should be learnt from"
        )
    return share


def group_of(grouping: Mapping[str, Any], *, data: Mapping[str, Any], url: str) -> str:
    """The key of what an image belongs to; "" for a group of its own, also where the rule finds nothing.

    data: the task's; url: the image's address in it. A pattern with a slash in it is searched in the whole path, any
    other in the image's name.
    """
    if pattern := grouping.get("pattern"):
        found = re.search(pattern, path_of(url) if "/" in pattern else name_of(data, url))
        text = (found.group(1) if found.re.groups else found.group()) if found else None
        return _shorten(text or "")
    return _shorten(_text_in(data, grouping.get("field")))


def source_of(grouping: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Where an image comes from (a site, a scanner), by the field that `grouping` names; "" when that is unknown."""
    return _text_in(data, grouping.get("source"))


def name_of(data: Mapping[str, Any], url: str) -> str:
    """An image's name as a person knows it: the task's field `name`, else the last part of its address."""
    given = data.get("name")
    if isinstance(given, str) and given.strip():
        return given.strip()
    last = path_of(url).rsplit("/", 1)[-1]
    prefix = _UPLOAD_PREFIX.match(last) if "/upload/" in url else None
    return last[prefix.end() :] if prefix else last


def path_of(url: str) -> str:
    """The path in an image's address, percent signs resolved; of Label Studio's local files, that below their root."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    local = parse_qs(parts.query).get("d") if parts.path.endswith("/local-files/") else None
    return local[0] if local else unquote(parts.path)


def grouping_digest(project: Project) -> str:
    """Names all that determines the groups of a project's tasks, and which of them are blind."""
    text = json.dumps([project.grouping or {}, project.blind_share or 0.0], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def set_group(project: Project, task: Task) -> bool:
    """Work out a task's group key; return whether it is another one than before."""
    before = task.group_key or ""
    task.group_key = group_of(project.grouping or {}, data=task.data or {}, url=task.url or "")
    return task.group_key != before


def follow_groups(session: Session, project: Project, *, after: int, limit: int) -> tuple[int, int | None]:
    """Work out the group keys of the next tasks anew, those with ids larger than `after`.

    Returns how many belong to another group, and the last task's id; None when all are done, blind ones chosen too.
    """
    mine = Task.project_id == project.id, Task.deleted_at.is_(None), Task.id > after
    tasks = session.scalars(select(Task).where(*mine).order_by(Task.id).limit(limit)).all()
    changed = sum(set_group(project, task) for task in tasks)
    if len(tasks) == limit:
        return changed, tasks[-1].id
    choose_blind(session, project)
    project.grouped_with = grouping_digest(project)
    return changed, None


def choose_blind(session: Session, project: Project, ls_ids: Collection[int] | None = None) -> int:
    """Decide of these tasks (None: all) whether they are blind, by whole groups; return how many changed.

    The choice follows from the group's key alone. A task that somebody has drawn on, and a group with such a task,
    stay as they are: what an annotator has seen cannot be unseen.
    """
    session.flush()
    drawn = exists().where(Label.task_id == Task.id)
    mine = Task.project_id == project.id
    blind = func.max(case((Task.blind, 1), else_=0))
    labelled = select(Task.group_key, Task.ls_id, blind).where(mine, drawn).group_by(Task.group_key, Task.ls_id)
    settled: dict[str, bool] = {}
    fixed: set[int] = set()
    for key, ls_id, value in session.execute(labelled):
        name = _blind_name(key, ls_id)
        settled[name] = settled.get(name, False) or bool(value)
        fixed.add(ls_id)
    if not project.blind_share and ls_ids is not None and not any(settled.values()):
        return 0
    statement = select(Task.id, Task.ls_id, Task.group_key, Task.blind).where(mine, Task.deleted_at.is_(None))
    if ls_ids is not None:
        statement = statement.where(Task.ls_id.in_(list(ls_ids)))
    parts: dict[int, list[tuple[int, str, bool]]] = {}
    for number, ls_id, key, is_blind in session.execute(statement):
        parts.setdefault(ls_id, []).append((number, _blind_name(key, ls_id), is_blind))
    changes: list[tuple[int, bool]] = []
    for ls_id, images in parts.items():
        if ls_id in fixed:
            continue
        # A task is shown as one: all of its images are blind, or none.
        wanted = any(settled.get(name, _draws_blind(project, name)) for _, name, _ in images)
        changes += [(number, wanted) for number, _, is_blind in images if is_blind != wanted]
    _write_blind(session, changes)
    return len(changes)


def _write_blind(session: Session, changes: list[tuple[int, bool]]) -> None:
    for start in range(0, len(changes), ROWS_AT_ONCE):
        wanted = dict(changes[start : start + ROWS_AT_ONCE])
        for task in session.scalars(select(Task).where(Task.id.in_(list(wanted)))).all():
            task.blind = wanted[task.id]
            mark_stale(session, task, "blind")


def _blind_name(key: str, ls_id: int) -> str:
    return f"group {key}" if key else f"task {ls_id}"


def _draws_blind(project: Project, name: str) -> bool:
    digest = hashlib.sha256(f"blind:{project.ls_id}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < (project.blind_share or 0.0)


def _text_in(data: Mapping[str, Any], field: object) -> str:
    value = data.get(field) if isinstance(field, str) else None
    if isinstance(value, bool | int | float | str):
        return str(value).strip()
    return ""


def _shorten(key: str) -> str:
    if len(key) <= LONGEST_KEY:
        return key
    return key[: LONGEST_KEY - 17] + "~" + hashlib.sha256(key.encode()).hexdigest()[:16]
