"""Group keys: what a field or a pattern makes of a task, and when they are worked out."""

import json
from typing import Any

import pytest
from command_fixture import Command
from pool_fixture import add_project, add_task
from sqlalchemy import select

from maskloop_backend.labelstudio.client import TaskRow
from maskloop_backend.sync import work
from maskloop_backend.sync.pull import Pulled, Puller
from maskloop_learner.pool.groups import (
    GroupingError,
    check_blind_share,
    group_of,
    grouping_digest,
    make_grouping,
    name_of,
    source_of,
)
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Event, Project, Task, utcnow


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/data/upload/3/0a1b2c3d-P012_slice%203.png", "P012_slice 3.png"),
        ("/data/local-files/?d=patients/P7/scan.png", "scan.png"),
        ("s3://bucket/P7/scan.png", "scan.png"),
        ("https://pacs.example/P7/scan.png?token=x/y", "scan.png"),
        ("https://[broken", "[broken"),
    ],
)
def test_an_image_is_called_as_a_person_calls_it(url: str, name: str) -> None:
    assert name_of({}, url) == name
    assert name_of({"name": "mine.png"}, url) == "mine.png"


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        (r"^(P\d+)_", "P012"),
        (r"^P\d+", "P012"),
        (r"slice(\d+)", "3"),
        (r"^(X)?P", ""),
        (r"nothing", ""),
        (r"(\d+)/[^/]+$", "3"),
    ],
)
def test_a_pattern_takes_the_key_out_of_the_name(pattern: str, key: str) -> None:
    """Its first group, or all it finds; one with a slash looks at the whole path."""
    assert group_of({"pattern": pattern}, data={}, url="/data/upload/3/0a1b2c3d-P012_slice3.png") == key


@pytest.mark.parametrize(
    ("value", "key"), [("P1", "P1"), (7, "7"), (0, "0"), (" x ", "x"), ("", ""), (None, ""), ([1], ""), ({}, "")]
)
def test_a_field_is_the_key(value: object, key: str) -> None:
    data = {"patient": value}
    assert group_of({"field": "patient"}, data=data, url="a.png") == key
    assert source_of({"source": "patient"}, data) == key
    assert group_of({"field": "other"}, data=data, url="a.png") == ""


def test_long_keys_stay_apart() -> None:
    keys = {group_of({"field": "f"}, data={"f": "x" * 300 + end}, url="") for end in "ab"}
    assert len(keys) == 2
    assert all(len(key) == 200 for key in keys)


def test_a_rule_that_cannot_be_is_refused() -> None:
    assert make_grouping(field="patient", source="site") == {"field": "patient", "source": "site"}
    assert make_grouping() == {}
    with pytest.raises(GroupingError, match=r"'\(P' is no regular expression: missing \)"):
        make_grouping(pattern="(P")
    with pytest.raises(GroupingError, match="got both: 'a' and 'b'"):
        make_grouping(field="a", pattern="b")
    for share in (-0.1, 0.6, float("nan")):
        with pytest.raises(GroupingError, match=r"between 0 and 0\.5"):
            check_blind_share(share)


def keys(pool: Pool) -> list[str]:
    with pool.read() as session:
        return list(session.scalars(select(Task.group_key).order_by(Task.id)))


def test_keys_follow_the_rule(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces; once they are worked out nothing is done until the rule changes."""
    monkeypatch.setattr(work, "TASKS_AT_ONCE", 2)
    project = add_project(pool)
    for number in range(11, 16):
        add_task(pool, project, number)
    with pool.write() as session:
        session.get_one(Project, project).grouping = {"pattern": r"^(\d)"}
    work.follow_grouping(pool, project)
    assert keys(pool) == ["1"] * 5
    with pool.write() as session:
        row = session.get_one(Project, project)
        assert row.grouped_with == grouping_digest(row)
        session.scalars(select(Task)).first().group_key = "other"  # type: ignore[union-attr]
    work.follow_grouping(pool, project)
    assert keys(pool) == ["other", *["1"] * 4]
    with pool.write() as session:
        session.get_one(Project, project).grouping = {}
    work.follow_grouping(pool, project)
    assert keys(pool) == [""] * 5


def test_a_new_task_has_its_key_at_once(pool: Pool) -> None:
    project = add_project(pool)
    with pool.write() as session:
        row = session.get_one(Project, project)
        row.grouping = {"field": "patient"}
    puller = Puller(pool=pool, client=None, settings=None, headers_for=lambda url: {}, beat=lambda: None)  # type: ignore[arg-type]
    for patient in ("P1", "P2"):
        data = {"image": "/data/upload/1/a.png", "patient": patient}
        heads = [TaskRow(id=5, data=data, updated_at=utcnow(), annotations=())]
        with pool.read() as session:
            row = session.get_one(Project, project)
        puller._take_tasks(row, heads, Pulled())
        assert keys(pool) == [patient]


def add_named(pool: Pool, project: int, names: list[str]) -> None:
    for ls_id, name in enumerate(names, 1):
        task = add_task(pool, project, ls_id)
        with pool.write() as session:
            session.get_one(Task, task).data = {"name": name, "site": name[-1]}


def test_the_command_shows_and_changes_the_rule(pool: Pool, command: Command) -> None:
    """A dry run changes nothing; what is not named stays as it is; an empty text takes a rule away."""
    project = add_project(pool)
    add_named(pool, project, ["P1_a", "P1_b", "P2_a", "P2_b", "x"])
    code, out, _ = command("groups", "--group-pattern", r"^(P\d)_", "--dry-run", "--json")
    found = json.loads(out)
    assert (code, found["groups"], found["alone"], found["largest"]) == (0, 3, 1, "P2")
    assert found["examples"] == {"P1": ["P1_a", "P1_b"], "P2": ["P2_a", "P2_b"]}
    assert found["warning"] == "1 image without a key, each a group of its own"
    assert rule(pool) == ({}, 0.0)
    code, out, _ = command("groups", "--group-pattern", r"^(P\d)_", "--source-field", "site")
    assert "5 images in 3 groups" in out
    assert "P1: P1_a, P1_b" in out
    assert command("groups", "--blind-share", "0.25")[0] == 0
    assert rule(pool) == ({"pattern": r"^(P\d)_", "source": "site"}, 0.25)
    assert command("groups", "--group-pattern", "")[0] == 0
    assert rule(pool) == ({"source": "site"}, 0.25)
    with pool.read() as session:
        assert len(session.scalars(select(Event).where(Event.kind == "grouping.changed")).all()) == 3


def rule(pool: Pool) -> tuple[dict[str, Any], float]:
    with pool.read() as session:
        project = session.scalars(select(Project)).one()
        return project.grouping, project.blind_share


def test_a_rule_that_groups_badly_is_told(pool: Pool, command: Command) -> None:
    add_named(pool, add_project(pool), ["P1_a", "P1_b", "P1_c", "P2_a"])
    assert "Group 'P1' has 3 of 4 images" in command("groups", "--group-pattern", "^P.", "--dry-run")[1]
    assert "a key in no image" in command("groups", "--group-field", "patient", "--dry-run")[1]
    code, _, said = command("groups", "--group-pattern", "(P")
    assert (code, "'(P' is no regular expression" in said) == (1, True), said
    code, _, said = command("groups", "--blind-share", "0.9")
    assert (code, "got 0.9" in said) == (1, True), said
    assert rule(pool) == ({}, 0.0)


def test_connect_checks_the_rule_before_it_asks_label_studio(command: Command) -> None:
    words = ("--url", "http://127.0.0.1:1", "--project", "7", "--token", "0" * 40)
    code, _, said = command("connect", *words, "--group-pattern", "(P", "--prompt", "Tumor=tumor")
    assert (code, "'(P' is no regular expression" in said) == (1, True), said
