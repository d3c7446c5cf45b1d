"""Tabs of the Data Manager."""

from collections.abc import Sequence
from typing import Any

from maskloop_backend.labelstudio.paging import Condition
from maskloop_backend.labelstudio.predictions import Predictions

UNLABELLED = Condition("total_annotations", "equal", "Number", 0)


class Views(Predictions):
    """The part of the client that reads and writes tabs of the Data Manager."""

    def ensure_view(
        self,
        project: int,
        title: str,
        *,
        ordering: str,
        where: Sequence[Condition] = (),
        hidden: Sequence[str] = (),
    ) -> int:
        """A tab of this title, made or brought up to date; returns its id.

        `ordering` e.g. "tasks:predictions_score" for the most uncertain first, `where` what its tasks must fulfil,
        `hidden` e.g. ["tasks:inner_id"].
        """
        data = {
            "title": title,
            "type": "list",
            "target": "tasks",
            "ordering": [ordering],
            "hiddenColumns": {"explore": list(hidden), "labeling": list(hidden)},
            "filters": {"conjunction": "and", "items": [condition.as_json() for condition in where]},
        }
        body = {"project": project, "data": data}
        for number, old in self.views(project).items():
            if old.get("title") == title:
                if any(old.get(key) != data[key] for key in ("ordering", "filters", "hiddenColumns")):
                    self.call("PATCH", f"api/dm/views/{number}/", json=body)
                return number
        return int(self.json("POST", "api/dm/views/", json=body)["id"])

    def views(self, project: int) -> dict[int, dict[str, Any]]:
        """Id -> what a tab shows, e.g. {"title", "ordering", "filters"}."""
        rows = self.json("GET", "api/dm/views/", params={"project": project})
        return {int(row["id"]): row["data"] for row in rows if row["project"] == project}

    def delete_view(self, view: int) -> None:
        """Remove a tab; one that is gone is fine."""
        self.call("DELETE", f"api/dm/views/{view}/", gone_is_fine=True)
