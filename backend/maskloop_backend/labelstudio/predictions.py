"""Predictions of a project: push in bulk, see what is there, remove, rescore."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from maskloop_backend.labelstudio.batches import batches
from maskloop_backend.labelstudio.errors import LabelStudioError
from maskloop_backend.labelstudio.records import Imported, PredictionCount, PredictionRow
from maskloop_backend.labelstudio.tasks import Tasks
from maskloop_backend.labelstudio.transport import BULK_TIMEOUT

ROWS_PER_PUSH = 100
BYTES_PER_PUSH = 8_000_000
"""Label Studio takes about 25 ms per 250 kB and serves nobody else meanwhile when it has one process."""


class Predictions(Tasks):
    """The part of the client that reads and writes predictions."""

    def import_predictions(self, project: int, rows: Iterable[Mapping[str, Any]]) -> Imported:
        """Push [{"task", "model_version", "score", "result"}], in requests of at most 100 rows and about 8 MB.

        Rows of tasks that no longer exist are left out and named. Not idempotent, and Label Studio tells no ids:
        after an error some rows may be there; `prediction_counts` and `predictions_index` show which.
        """
        created, unknown = 0, set[int]()
        # The regions are weighed, not encoded twice: an int of a RLE takes about 4.6 bytes.
        for batch in batches(rows, ROWS_PER_PUSH, _weight, BYTES_PER_PUSH):
            try:
                created += self._push(project, batch)
            except LabelStudioError as error:
                if error.status != 400:
                    raise
                # One task deleted meanwhile makes Label Studio refuse the whole request, before it stores any.
                there = set(self.task_data(project, (row["task"] for row in batch)))
                missing = {row["task"] for row in batch} - there
                if not missing:
                    raise
                unknown |= missing
                rest = [row for row in batch if row["task"] in there]
                created += self._push(project, rest) if rest else 0
        return Imported(created, frozenset(unknown))

    def _push(self, project: int, batch: list[Mapping[str, Any]]) -> int:
        path = f"api/projects/{project}/import/predictions"
        return int(self.json("POST", path, json=batch, timeout=BULK_TIMEOUT)["created"])

    def prediction_counts(self, project: int) -> dict[int, PredictionCount]:
        """How many predictions every task has, and of which versions, without reading any: 6 s per 20,000 tasks.

        Versions must not contain a comma, and all of a task's together at most 500 characters.
        """
        pages = self._pages(
            project, "id,total_predictions,predictions_model_versions", column="predictions_model_versions"
        )
        return {row["id"]: _count(row) for page in pages for row in page}

    def predictions_index(
        self, project: int, version: str | None = None, *, tasks: Iterable[int] | None = None
    ) -> list[PredictionRow]:
        """Ids, tasks, versions and scores of a project's predictions, of one version or all, of all tasks or some.

        Label Studio lists no prediction without its regions, so they travel and are dropped: 3 ms per task with two
        masks of 32 kB. Ask for `tasks` where few are in question (`prediction_counts` tells).
        """
        found = self._with_predictions(project, tasks)
        return [row for row in found if version is None or row.version == version]

    def _with_predictions(self, project: int, tasks: Iterable[int] | None) -> Iterator[PredictionRow]:
        if tasks is None:
            for page in self._pages(project, "id,predictions", bodies=True):
                for task in page:
                    yield from map(PredictionRow.read, task["predictions"])
        else:
            for task in self._selected(project, tasks, {"fields": "all", "include": "id,predictions"}):
                yield from map(PredictionRow.read, task["predictions"])

    def prediction(self, prediction: int) -> PredictionRow | None:
        """One prediction; None when it is gone."""
        answer = self.call("GET", f"api/predictions/{prediction}/", gone_is_fine=True)
        return None if answer.status_code == 404 else PredictionRow.read(self._json(answer))

    def delete_predictions(self, predictions: Iterable[int]) -> int:
        """Delete predictions one by one (70 ms each); returns how many there were. Those gone are fine.

        An annotation that names one as its parent forgets it; submitting a task that was opened with it fails.
        """
        answers = (self.call("DELETE", f"api/predictions/{id_}/", gone_is_fine=True) for id_ in predictions)
        return sum(answer.status_code != 404 for answer in answers)

    def delete_version(self, project: int, version: str) -> int:
        """Delete every prediction of a version (4-10 ms each); returns how many. Same consequences as above.

        If the project serves that version, it serves none afterwards.
        """
        if not version:
            raise ValueError("version must be named: Label Studio takes an empty one for all")
        path = f"api/projects/{project}/model-versions/"
        return int(
            self.json("DELETE", path, json={"model_version": version}, timeout=BULK_TIMEOUT)["deleted_predictions"]
        )

    def set_score(self, prediction: int, score: float) -> bool:
        """Change the score of a prediction (50-80 ms); kept to the last bit. False when the prediction is gone."""
        answer = self.call("PATCH", f"api/predictions/{prediction}/", json={"score": score}, gone_is_fine=True)
        return answer.status_code != 404

    def model_versions(self, project: int) -> dict[str, int]:
        """Prediction version -> number of its predictions in the project."""
        counts: dict[str, int] = self.json("GET", f"api/projects/{project}/model-versions/")
        # The project's own model_version is listed too, with 0, when nothing has it.
        return {version: count for version, count in counts.items() if count}

    def set_model_version(self, project: int, version: str) -> None:
        """Have the project show and order by a version; 400 when it has no prediction of it. "": none."""
        self.call("PATCH", f"api/projects/{project}/", json={"model_version": version})


def _weight(row: Mapping[str, Any]) -> int:
    regions = row.get("result") or []
    ints = sum(len(region.get("value", {}).get("rle") or ()) for region in regions)
    return 200 + ints * 5 + (0 if ints else len(json.dumps(regions)))


def _count(row: Mapping[str, Any]) -> PredictionCount:
    versions = frozenset(filter(None, row["predictions_model_versions"].split(",")))
    return PredictionCount(int(row["total_predictions"]), versions)
