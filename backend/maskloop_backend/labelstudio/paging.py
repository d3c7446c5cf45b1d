"""Walks through a project's tasks page by page, by id, with pages as large as Label Studio bears."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from maskloop_backend.labelstudio.transport import BULK_TIMEOUT, Transport, server_time

FIRST_PAGE, SMALLEST_PAGE, LARGEST_PAGE = 100, 5, 1000
SLOW_PAGE, QUICK_PAGE = 4.0, 1.5
"""Seconds: Label Studio serves others meanwhile, and with one process nobody."""
LARGE_BODY = 8_000_000
AS_STORED = {"resolve_uri": "false"}
"""Addresses as they stand in the task, s3://.. included, as /predict gets them: Label Studio would put its
LABEL_STUDIO_HOST before them, which may be another name than ours, and fails where a project has a login for images."""
COLUMNS = (
    *("annotations_results", "predictions_results", "predictions_score", "annotators", "completed_at", "file_upload"),
    *("draft_exists", "avg_lead_time", "storage_filename", "annotations_ids", "predictions_model_versions"),
)


@dataclass(frozen=True)
class Condition:
    """One filter of the Data Manager, e.g. Condition("updated_at", "greater_or_equal", "Datetime", "...Z")."""

    column: str
    operator: str
    type: str
    value: Any

    def as_json(self) -> dict[str, Any]:
        """Label Studio's spelling."""
        return {
            "filter": f"filter:tasks:{self.column}",
            "operator": self.operator,
            "type": self.type,
            "value": self.value,
        }


def since(moment: datetime) -> Condition:
    """Tasks whose updated_at is at or after an aware moment. Label Studio knows one spelling, and 500s on others."""
    value = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return Condition("updated_at", "greater_or_equal", "Datetime", value)


class TaskPages(Transport):
    """The part of the client that lists tasks."""

    def _pages(
        self,
        project: int,
        include: str,
        *,
        where: Sequence[Condition] = (),
        bodies: bool = False,
        column: str = "",
        started: list[datetime] | None = None,
    ) -> Iterator[list[dict[str, Any]]]:
        """Pages of task rows in order of id, each task once.

        Asked by id, not by page number: rows that change or vanish meanwhile shift pages, never ids.
        `include` names the fields, "annotations.id" those of annotations. `bodies`: annotations and predictions
        may be asked for. `column`: a computed column of the Data Manager to work out. The moment at which
        Label Studio began is appended to `started`.
        """
        last, size = 0, FIRST_PAGE
        while True:
            items = [*where, Condition("id", "greater", "Number", last)]
            query: dict[str, Any] = {
                "filters": {"conjunction": "and", "items": [item.as_json() for item in items]},
                "ordering": ["tasks:id"],
            }
            if column:
                hidden = [f"tasks:{name}" for name in COLUMNS if name != column]
                query["hiddenColumns"] = {"explore": hidden, "labeling": hidden}
            params = {"project": project, "page": 1, "page_size": size, "include": include, "query": json.dumps(query)}
            params |= AS_STORED
            if bodies:
                params |= {"fields": "all", "expand": "annotations"} if "annotations." in include else {"fields": "all"}
            begun = time.monotonic()
            answer = self.call("GET", "api/tasks/", params=params, timeout=BULK_TIMEOUT)
            seconds = time.monotonic() - begun
            if started is not None and not started:
                started.append(server_time(answer))
            rows = self._json(answer)["tasks"]
            if rows:
                yield rows
            if len(rows) < size:
                return
            last = rows[-1]["id"]
            if seconds > SLOW_PAGE or len(answer.content) > LARGE_BODY:
                size = max(SMALLEST_PAGE, size // 2)
            elif seconds < QUICK_PAGE and len(answer.content) < LARGE_BODY / 4:
                size = min(LARGEST_PAGE, size * 2)
