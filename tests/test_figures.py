"""Figures for Prometheus, as the web process gives them, and the example alert rules that go by them."""

import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from pool_fixture import add_label, add_model, add_project, add_task
from prometheus_client.parser import text_string_to_metric_families
from valkey_fixture import Valkey
from web_fixture import add_prediction, add_version, serving

from maskloop_backend.backup.saving import save
from maskloop_backend.sync.alarms import Alarms
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Label, Project, Round, Task
from maskloop_learner.pool.snapshot import freeze_snapshot
from maskloop_learner.settings import Settings
from maskloop_queue.valkey import endpoint

RULES = Path(__file__).parents[1] / "docs" / "alerts.yml"
Sample = tuple[str, tuple[tuple[str, str], ...]]


@pytest.fixture
def lived(pool: Pool, settings: Settings, tmp_path: Path) -> Pool:
    """A pool that has seen something of everything."""
    project = add_project(pool)
    tasks = [add_task(pool, project, number) for number in range(1, 6)]
    add_label(pool, tasks[0])
    add_label(pool, tasks[1], cancelled=True)
    broken = add_label(pool, tasks[2])
    add_version(pool, project, add_model(pool, project), "v1")
    with pool.read() as session:
        image = str(session.get_one(Task, tasks[3]).image_digest)
    add_prediction(pool, "v1", image)
    snapshot = freeze_snapshot(pool, project, share=0.2)
    with pool.write() as session:
        session.get_one(Label, broken).error = "another size"
        session.get_one(Task, tasks[4]).state = "new"
        session.get_one(Champion, project).fence = 3
        row = session.get_one(Project, project)
        row.looked_at, row.sync_error = datetime(2026, 1, 5, tzinfo=UTC), "no token"
        ended = datetime(2026, 1, 4, tzinfo=UTC)
        for state, failures, at in (("promoted", 0, ended), ("failed", 5, ended), ("queued", 2, None)):
            about = {"project_id": project, "snapshot_id": snapshot, "cause": "cli"}
            session.add(Round(**about, state=state, failures=failures, ended_at=at))
    Alarms(pool=pool, minutes=0).set("disk.low", "/data", "full")
    save(settings, tmp_path / "a.tar")
    return pool


def read(pool: Pool, settings: Settings, valkey: Valkey) -> tuple[dict[Sample, float], set[str]]:
    """Samples by name and labels, and the names of all series, as a scrape gets them."""
    settings.redis_url = endpoint(valkey.settings.home).url
    with serving(pool, settings) as client:
        client.get("/health")
        text = client.get("/metrics").text
    samples, names = {}, set()
    for family in text_string_to_metric_families(text):
        names.add(family.name)
        for sample in family.samples:
            samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
            names.add(sample.name)
    return samples, names


def test_every_figure_is_what_the_pool_says(lived: Pool, settings: Settings, shared_valkey: Valkey) -> None:
    """Counts by project and state, moments as Unix seconds, and troubles that stand."""
    got, _ = read(lived, settings, shared_valkey)
    of = ("project", "7")
    wanted: dict[Sample, float] = {
        ("maskloop_tasks", (of, ("state", "ready"))): 4,
        ("maskloop_tasks", (of, ("state", "new"))): 1,
        ("maskloop_labels", (of,)): 1,
        ("maskloop_labels_unusable", (of, ("why", "skipped"))): 1,
        ("maskloop_labels_unusable", (of, ("why", "broken"))): 1,
        ("maskloop_rounds", (of, ("state", "promoted"))): 1,
        ("maskloop_round_ended_timestamp_seconds", (of, ("state", "failed"))): 1767484800,
        ("maskloop_round_failures", (of,)): 2,
        ("maskloop_champion_fence", (of,)): 3,
        ("maskloop_predictions", (of, ("version", "v1"))): 1,
        ("maskloop_predictions_missing", (of,)): 1,
        ("maskloop_sync_timestamp_seconds", (of,)): 1767571200,
        ("maskloop_sync_failing", (of,)): 1,
        ("maskloop_images", ()): 5,
        ("maskloop_alarm", (("kind", "disk.low"), ("subject", "/data"))): 1,
        ("maskloop_queue_up", ()): 1,
        ("maskloop_workers", (("queue", "gpu"),)): 0,
        ("maskloop_disk_low", ()): 0,
    }
    assert {key: got.get(key) for key in wanted} == wanted
    assert abs(got["maskloop_backup_timestamp_seconds", ()] - time.time()) < 300
    assert got["maskloop_disk_free_bytes", ()] > 1e6
    assert got["maskloop_database_bytes", ()] > 1e4


def test_an_empty_pool_has_figures_too(pool: Pool, settings: Settings, shared_valkey: Valkey) -> None:
    """And none of a backup that was never made."""
    got, names = read(pool, settings, shared_valkey)
    assert got["maskloop_images", ()] == 0
    assert "maskloop_backup_timestamp_seconds" in names
    assert ("maskloop_backup_timestamp_seconds", ()) not in got


def test_the_alert_rules_go_by_figures_that_exist(lived: Pool, settings: Settings, shared_valkey: Valkey) -> None:
    """Each rule's names and label values are in a real scrape."""
    got, names = read(lived, settings, shared_valkey)
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    named: set[str] = set()
    for rule in rules:
        assert (
            {"alert", "expr", "labels", "annotations"} <= set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        )
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"].endswith(".")
        used = re.findall(r"maskloop_\w+", rule["expr"])
        assert used or rule["alert"] == "MaskloopDown"
        named |= set(used)
        assert rule["expr"].count("(") == rule["expr"].count(")")
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert any(label in dict(labels) for name, labels in got if name in used), (rule["alert"], label)
    assert named - names == set()
