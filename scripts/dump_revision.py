"""Print a pool of this release as SQL, with rows in every table: what tests/test_migrations.py upgrades from.

    python scripts/dump_revision.py > tests/revisions/0005.sql

Run it before a new migration is added, so that the release before it stays tested. The tree that is upgraded from is
the one that Python finds, so PYTHONPATH=OTHER_TREE/learner makes the dump of another release.
"""

import sqlite3
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Base
from maskloop_learner.settings import Settings

NOW = datetime(2026, 1, 5, 9, 30, 0, 125000, tzinfo=UTC)
VERSION = "ml-1-0123456789abcdef"
TAG = {"from_name": "tag", "to_name": "image", "data_key": "image", "labels": ["Tumor", "Cyst"]}
NEW_CONTROL = {"controls": [{"kind": "brush", **TAG}], "prompt_tags": [], "labels": TAG["labels"]}
PROMPT = {"Tumor": {"text": "a tumor of the left breast", "source": "annotator"}}
MEAN = {"probability": 0.8, "predictive_entropy": 0.25, "expected_entropy": 0.2, "mutual_information": 0.05}
SCORE = {**MEAN, "variance": 0.01, "method": "monte-carlo", "samples": 30, "label": "Tumor", "area": 70}
AGGREGATES = {"predictive_entropy": {"mean": 0.25}}


def digest(number: int) -> str:
    """A digest as the store makes them."""
    return f"{number:064x}"


def rows(*, parts: bool) -> dict[str, list[dict[str, Any]]]:
    """Rows for every table there ever was; `parts`: the release knows several images per task."""
    control = NEW_CONTROL if parts else TAG
    return {
        "projects": [
            {"id": 1, "ls_url": "http://labels", "ls_id": 7, "title": "Brüste", "label_config": "<View/>"}
            | {"control": control, "prompts": {"Tumor": "tumor", "Cyst": "cyst"}, "synced_at": NOW, "looked_at": NOW}
            | {"served_version": VERSION, "switched_at": NOW, "grouping": {"field": "patient"}, "blind_share": 0.1},
            {"id": 2, "ls_url": "http://labels", "ls_id": 8, "title": "not yet read", "sync_error": "no token"},
        ],
        "images": [{"digest": digest(n), "width": 24, "height": 16, "format": "PNG", "size": 100 + n} for n in (1, 2)],
        "tasks": [
            {"id": n, "project_id": 1, "ls_id": 10 + n, "part": "image", "url": f"/data/upload/{n}.png"}
            | {"data": {"image": f"/data/upload/{n}.png"}, "image_digest": digest(n), "state": "ready"}
            | {"group_key": "patient 1", "ls_updated_at": NOW}
            for n in (1, 2)
        ]
        + [{"id": 3, "project_id": 2, "ls_id": 1, "state": "failed", "error": "it is a text", "attempts": 2}],
        "labels": [
            {"id": 1, "task_id": 1, "ls_annotation_id": 31, "version": 1, "current": False, "ls_updated_at": NOW},
            {"id": 2, "task_id": 1, "ls_annotation_id": 31, "version": 2, "author": "a@example.org", "lead_time": 4.5}
            | {"masks": {"Tumor": digest(11)}, "parent_prediction": 501, "ls_updated_at": NOW, "prompts": PROMPT},
        ],
        "snapshots": [{"id": 1, "project_id": 1, "digest": digest(21), "label_ids": [2]}],
        "models": [
            {"id": 1, "project_id": 1, "weights_digest": digest(31), "backbone": "nano", "labels": TAG["labels"]}
            | {"snapshot_id": 1, "metrics": {"temperature": 1.1}, "config": {"steps": 300}},
            {"id": 2, "project_id": 1, "weights_digest": digest(32), "backbone": "nano", "labels": TAG["labels"]}
            | {"snapshot_id": 1, "parent_id": 1, "manifest_digest": digest(22)},
        ],
        "prediction_versions": [{"id": VERSION, "project_id": 1, "model_id": 1, "config": {"samples": 30}}],
        "champions": [
            {"project_id": 1, "model_id": 1, "version_id": VERSION, "fence": 3, "changed_by": "round 1"}
            | {"challenger_id": 2, "challenger_since": NOW}
        ],
        "predictions": [
            {"id": 1, "version_id": VERSION, "image_digest": digest(1), "uncertainty": 0.25, "seconds": 0.5},
            {"id": 2, "version_id": VERSION, "image_digest": digest(2), "error": "too large"},
        ],
        "scores": [{"id": 1, "prediction_id": 1, "mask_digest": digest(12), "aggregates": AGGREGATES, **SCORE}],
        "ranks": [
            {"id": 1, "version_id": VERSION, "image_digest": digest(1), "uncertainty": 0.3, "method": "mean-value"}
            | {"samples": 1, "aggregates": {"Tumor": AGGREGATES}}
        ],
        "prompt_sets": [{"digest": "0123456789abcdef", "prompts": PROMPT}],
        "pushes": [{"ls_prediction_id": 501, "project_id": 1, "task_id": 1, "version_id": VERSION, "score": 0.75}],
        "rounds": [
            {"id": 1, "project_id": 1, "snapshot_id": 1, "cause": "labels", "state": "promoted", "model_id": 1}
            | {"attempts": 1, "progress": {"step": 300, "steps": 300}, "started_at": NOW, "ended_at": NOW},
            {"id": 2, "project_id": 1, "snapshot_id": 1, "cause": "cron", "state": "running", "attempts": 1},
        ],
        "train_requests": [{"id": 1, "project_id": 1, "cause": "button", "round_id": 1}],
        "batches": [{"id": 1, "project_id": 1, "strategy": "uncertainty", "items": [{"task_id": 1, "rank": 1}]}],
        "batch_items": [{"batch_id": 1, "task_id": 1, "position": 1, "slot": "uncertain", "reason": "most uncertain"}],
        "embeddings": [{"image_digest": digest(1), "space": "nano", "vector": b"\x00\x3c"}],
        "cursors": [{"name": "alerts", "position": 1}],
        "events": [{"id": 1, "project_id": 1, "kind": "round.opened", "subject": "1", "data": {"cause": "labels"}}],
    }


def dump() -> str:
    """Fill a new pool and return it as SQL."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        pool = Pool.open(settings)
        tables = Base.metadata.sorted_tables
        known = rows(parts="part" in Base.metadata.tables["tasks"].columns)
        with pool.write() as session:
            for table in tables:
                if not known.get(table.name):
                    raise SystemExit(f"scripts/dump_revision.py has no row for table {table.name!r}: add one")
                # The events of earlier releases' own times would differ with every run.
                default = {name: NOW for name in ("created_at", "changed_at", "at") if name in table.columns}
                for row in known[table.name]:
                    values = {name: value for name, value in (default | row).items() if name in table.columns}
                    session.execute(insert(table).values(**values))
        pool.close()
        with sqlite3.connect(settings.home / "maskloop.db") as connection:
            lines = list(connection.iterdump())
        connection.close()
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(dump())
