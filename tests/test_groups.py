"""Group keys: what a field or a pattern makes of a task, and when they are worked out."""

import pytest
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
from maskloop_learner.pool.schema import Project, Task, utcnow


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
