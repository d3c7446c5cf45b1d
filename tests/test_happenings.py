"""The log in words, where labels are many."""

from pool_fixture import add_project

from maskloop_backend.overview.happenings import read_happenings
from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool


def take_labels(pool: Pool, project: int, count: int) -> None:
    with pool.write() as session:
        for number in range(count):
            record(session, "label.taken", project_id=project, subject=str(number), data={"task": number})


def test_many_labels_hide_nothing_and_are_counted(pool: Pool) -> None:
    """An import of hundreds stands in one line, and what happened before it is still told."""
    project = add_project(pool)
    with pool.write() as session:
        record(session, "round.failed", project_id=project, subject="4", data={"reason": "no memory"})
    take_labels(pool, project, 1205)
    with pool.write() as session:
        record(session, "queue.down")
    take_labels(pool, project, 1)
    with pool.read() as session:
        found = read_happenings(session, project, limit=10)
        assert read_happenings(session, project, limit=2) == found[:2]
    assert [(each.words, each.times) for each in found] == [
        ("A label of task 0 was taken in", 1),
        ("Redis does not answer", 1),
        ("1,205 labels were taken in", 1205),
        ("Training 4 failed", 1),
    ]


def test_a_project_of_labels_alone_has_one_line(pool: Pool) -> None:
    project = add_project(pool)
    take_labels(pool, project, 2)
    with pool.read() as session:
        assert [each.words for each in read_happenings(session, project)] == ["2 labels were taken in"]
