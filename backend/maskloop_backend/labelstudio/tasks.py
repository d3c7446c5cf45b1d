"""Tasks, annotations and files of a project. None of these calls makes Label Studio ask a backend for predictions."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from maskloop_backend.labelstudio.batches import batches
from maskloop_backend.labelstudio.paging import AS_STORED, Condition, TaskPages, since
from maskloop_backend.labelstudio.records import Annotation, Changes, TaskRow
from maskloop_backend.labelstudio.transport import BULK_TIMEOUT

HEADS = "id,updated_at,annotations.id,annotations.updated_at,annotations.was_cancelled"
ANNOTATION_FIELDS = (
    *("id", "task", "result", "completed_by", "was_cancelled", "ground_truth"),
    *("lead_time", "parent_prediction", "created_at", "updated_at"),
)
TASKS_PER_CALL = 20
FILES_PER_CALL = 50
"""Label Studio takes 100 files in one request (DATA_UPLOAD_MAX_NUMBER_FILES)."""
ROWS_PER_CALL = 1000


class Tasks(TaskPages):
    """The part of the client that reads and writes tasks and annotations."""

    def changed_tasks(self, project: int, moment: datetime | None) -> Changes:
        """Tasks created or changed at or after an aware moment (None: all), with their data and annotation heads.

        A task counts as changed when an annotation of it is made, edited, skipped, un-skipped or deleted. It is not
        listed when it was itself deleted, and when annotations were "propagated": see `all_tasks`.
        """
        where = [since(moment)] if moment else []
        started: list[datetime] = []
        pages = self._pages(project, HEADS + ",data", where=where, bodies=True, started=started)
        rows = [TaskRow.read(row) for page in pages for row in page]
        # The clock comes in whole seconds, and the row that is being saved now is not yet visible.
        return Changes(rows, started[0] - timedelta(seconds=1))

    def all_tasks(self, project: int) -> dict[int, TaskRow]:
        """Every task of a project by id, with annotation heads, without data: for comparing ids in full.

        About 6 s for 20,000 tasks with small masks; 1-10 ms more per task where the masks are large.
        """
        pages = self._pages(project, HEADS, bodies=True)
        return {row["id"]: TaskRow.read(row) for page in pages for row in page}

    def task_data(self, project: int, tasks: Iterable[int]) -> dict[int, dict[str, Any]]:
        """The data of some tasks by id; deleted ones are left out."""
        return {row["id"]: row["data"] for row in self._selected(project, tasks, {"include": "id,data"})}

    def annotations(self, project: int, tasks: Iterable[int]) -> dict[int, list[Annotation]]:
        """All annotations of some tasks with their regions, skipped ones too; deleted tasks are left out."""
        include = "id," + ",".join(f"annotations.{name}" for name in ANNOTATION_FIELDS)
        params = {"fields": "all", "expand": "annotations", "include": include}
        rows = self._selected(project, tasks, params)
        return {row["id"]: [Annotation.read(annotation) for annotation in row["annotations"]] for row in rows}

    def _selected(self, project: int, tasks: Iterable[int], params: Mapping[str, str]) -> Iterable[dict[str, Any]]:
        wanted = sorted(set(tasks))
        for start in range(0, len(wanted), TASKS_PER_CALL):
            # Never empty: Label Studio takes an empty selection for all tasks.
            some = wanted[start : start + TASKS_PER_CALL]
            query = json.dumps({"selectedItems": {"all": False, "included": some}})
            paged = {**params, **AS_STORED, "project": project, "query": query, "page": 1, "page_size": TASKS_PER_CALL}
            yield from self.json("GET", "api/tasks/", params=paged, timeout=BULK_TIMEOUT)["tasks"]

    def annotation(self, annotation: int) -> Annotation | None:
        """One annotation, skipped or not; None when it is gone."""
        answer = self.call("GET", f"api/annotations/{annotation}/", gone_is_fine=True)
        return None if answer.status_code == 404 else Annotation.read(self._json(answer))

    def create_annotation(
        self,
        task: int,
        result: Sequence[Mapping[str, Any]],
        *,
        cancelled: bool = False,
        lead_time: float | None = None,
        parent_prediction: int | None = None,
    ) -> Annotation:
        """Submit (or skip) a task as the token's user. 400 when the parent prediction no longer exists."""
        body = {
            "result": list(result),
            "was_cancelled": cancelled,
            "lead_time": lead_time,
            "parent_prediction": parent_prediction,
        }
        return Annotation.read(self.json("POST", f"api/tasks/{task}/annotations/", json=body))

    def update_annotation(
        self, annotation: int, *, result: Sequence[Mapping[str, Any]] | None = None, cancelled: bool | None = None
    ) -> Annotation:
        """Change an annotation's regions, or skip and un-skip it."""
        body: dict[str, Any] = {} if result is None else {"result": list(result)}
        if cancelled is not None:
            body["was_cancelled"] = cancelled
        return Annotation.read(self.json("PATCH", f"api/annotations/{annotation}/", json=body))

    def delete_annotation(self, annotation: int) -> None:
        """Delete an annotation; one that is gone is fine."""
        self.call("DELETE", f"api/annotations/{annotation}/", gone_is_fine=True)

    def set_task_data(self, task: int, data: Mapping[str, Any]) -> bool:
        """Replace a task's data; False when the task is gone."""
        answer = self.call("PATCH", f"api/tasks/{task}/", json={"data": dict(data)}, gone_is_fine=True)
        return answer.status_code != 404

    def delete_task(self, task: int) -> None:
        """Delete a task with all it has; one that is gone is fine."""
        self.call("DELETE", f"api/tasks/{task}/", gone_is_fine=True)

    def busy_tasks(self, project: int) -> set[int]:
        """Tasks that somebody has open (a lock, for up to a day by default) or has a draft of."""
        locked = Condition("locks", "empty", "Boolean", "false")
        drafted = Condition("draft_exists", "equal", "Boolean", "true")
        return {
            row["id"]
            for condition in (locked, drafted)
            for page in self._pages(project, "id", where=[condition])
            for row in page
        }

    def next_task(self, project: int) -> dict[str, Any] | None:
        """The task that Label Studio would serve to the token's user, with predictions; it is locked for that user.

        None when there is none left. A task the user already holds comes again.
        """
        answer = self.call("GET", f"api/projects/{project}/next/", gone_is_fine=True)
        return None if answer.status_code == 404 else dict(self._json(answer))

    def ordered_tasks(self, project: int, ordering: str) -> list[tuple[int, float | None]]:
        """(task, prediction score) in an order of the Data Manager, e.g. "tasks:predictions_score": nulls last.

        In another order the scores are None.
        """
        found: list[tuple[int, float | None]] = []
        query = json.dumps({"ordering": [ordering]})
        for page in range(1, 1_000_000):
            params = {"project": project, "page": page, "page_size": ROWS_PER_CALL, "query": query}
            params["include"] = "id,predictions_score"
            answer = self.call("GET", "api/tasks/", params=params, timeout=BULK_TIMEOUT, gone_is_fine=True)
            rows = [] if answer.status_code == 404 else self._json(answer)["tasks"]
            found += [(row["id"], row.get("predictions_score")) for row in rows]
            if len(rows) < ROWS_PER_CALL:
                break
        return found

    def upload_files(self, project: int, files: Sequence[tuple[str, bytes]]) -> list[str]:
        """Upload (name, bytes) without making tasks; returns addresses in order, e.g. /data/upload/6/1a2b-x.png."""
        ids: list[int] = []
        for batch in batches(files, FILES_PER_CALL, lambda file: len(file[1])):
            parts = [(f"file{number}", (name, data)) for number, (name, data) in enumerate(batch)]
            path, params = f"api/projects/{project}/import", {"commit_to_project": "false"}
            ids += self.json("POST", path, params=params, files=parts, timeout=BULK_TIMEOUT)["file_upload_ids"]
        paths: dict[int, str] = {}
        for start in range(0, len(ids), ROWS_PER_CALL):
            params = {"ids": json.dumps(ids[start : start + ROWS_PER_CALL])}
            rows = self.json("GET", f"api/projects/{project}/file-uploads", params=params)
            paths |= {row["id"]: "/data/" + row["file"] for row in rows}
        return [paths[number] for number in ids]

    def import_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        """Create tasks of [{"data": {..}, "meta": {..}, "annotations": [{"result": ..}]}]; returns ids in order."""
        ids: list[int] = []
        for batch in batches(tasks, ROWS_PER_CALL, lambda task: len(json.dumps(task))):
            path, params = f"api/projects/{project}/import", {"return_task_ids": "true"}
            ids += self.json("POST", path, params=params, json=list(batch), timeout=BULK_TIMEOUT)["task_ids"]
        return ids
