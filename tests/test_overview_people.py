"""What annotators did, read from labels: counts, seconds, what was left, Dice, periods, and who is found."""

from datetime import date, timedelta

import pytest
from people_fixture import NOW, add_team, add_work
from pool_fixture import add_project
from sqlalchemy import update

from maskloop_backend.overview.people import FEWEST, People, look_at_people
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Label, Project, Task


def look(pool: Pool, project: int, days: int | None = 90) -> People:
    """At noon of NOW."""
    with pool.read() as session:
        return look_at_people(session, project, days=days, now=NOW)


def test_every_label_is_counted_once_and_by_what_was_shown(pool: Pool) -> None:
    """Left, edited, not comparable, blind, without a mask, unknown, not compared yet, skipped."""
    project = add_project(pool)
    add_work(pool, project, "ana", 3, unedited=True)
    add_work(pool, project, "ana", 2, unedited=False)
    add_work(pool, project, "ana", 1, unedited=None, dice={})
    for shown, count in (("blind", 4), ("nothing", 5), ("unknown", 6), (None, 7)):
        add_work(pool, project, "ana", count, shown=shown)
    add_work(pool, project, "ana", 8, shown=None, cancelled=True)
    (ana,) = look(pool, project).persons
    assert (ana.name, ana.labels, ana.skipped, ana.pending, ana.unknown) == ("ana", 28, 8, 7, 6)
    counts = [way.count for way in (ana.every, ana.accepted, ana.edited, ana.masked, ana.blind, ana.alone)]
    assert counts == [28, 3, 2, 6, 4, 5]
    assert ana.share == 0.6


def test_a_lead_time_of_zero_or_none_does_not_count(pool: Pool) -> None:
    project = add_project(pool)
    for seconds in (0.0, None, 10.0, 20.0, 60.0, -1.0):
        add_work(pool, project, "ana", seconds=seconds)
    every = look(pool, project).everyone.every
    assert (every.count, every.uncounted) == (6, 3)
    assert every.seconds is not None
    assert (every.seconds.count, every.seconds.low, every.seconds.median, every.seconds.high) == (3, 15, 20, 40)


def test_dice_is_told_by_label_and_day_and_only_of_masks_that_were_shown(pool: Pool) -> None:
    project = add_project(pool)
    add_work(pool, project, "ana", 2, dice={"Tumor": 0.8, "Cyst": 0.6}, days_ago=1)
    add_work(pool, project, "ben", 1, dice={"Tumor": 0.5}, days_ago=3)
    add_work(pool, project, "ben", 5, shown="blind", dice={"Tumor": 0.1}, days_ago=3)
    found = look(pool, project)
    assert {name: (each.count, each.median) for name, each in found.everyone.by_label.items()} == {
        "Cyst": (2, 0.6),
        "Tumor": (3, 0.8),
    }
    assert {day: each.median for day, each in found.dice_by_day["Tumor"].items()} == {
        date(2026, 3, 28): 0.5,
        date(2026, 3, 30): 0.8,
    }
    assert found.blind_dice["Tumor"].median == 0.1
    assert sum(found.everyone.histogram) == pytest.approx(1)
    assert found.everyone.histogram[8] == pytest.approx(0.4)


def test_days_without_labels_are_there_and_long_periods_go_by_weeks(pool: Pool) -> None:
    project = add_project(pool)
    add_work(pool, project, "ana", 2, days_ago=3)
    add_work(pool, project, "ben", 1, days_ago=0)
    found = look(pool, project)
    assert not found.weekly
    assert [(day.day, counts.total()) for day, counts in found.by_day.items()] == [(28, 2), (29, 0), (30, 0), (31, 1)]
    add_work(pool, project, "ana", 1, days_ago=60)
    found = look(pool, project)
    assert found.weekly
    assert {day.weekday() for day in found.by_day} == {0}
    assert [counts.total() for counts in found.by_day.values()] == [1, 0, 0, 0, 0, 0, 0, 0, 2, 1]


def test_a_period_begins_where_it_is_asked_to(pool: Pool) -> None:
    project = add_project(pool)
    add_work(pool, project, "ana", 2, days_ago=6.9)
    add_work(pool, project, "ana", 3, days_ago=7.1)
    assert look(pool, project, 7).everyone.labels == 2
    assert look(pool, project, None).everyone.labels == 5
    with pytest.raises(ValueError, match="days must be 1 or more"):
        look(pool, project, 0)


def test_an_annotation_of_two_images_is_one_label(pool: Pool) -> None:
    """Its time counts once; it is unedited when both are; Dice is of each."""
    project = add_project(pool)
    for number, second in enumerate((True, False)):
        add_work(pool, project, "ana", unedited=True, ls_annotation_id=number, seconds=30.0)
        add_work(pool, project, "ana", unedited=second, ls_annotation_id=number, seconds=30.0)
    found = look(pool, project).everyone
    assert (found.labels, found.accepted.count, found.edited.count) == (2, 1, 1)
    assert found.every.seconds is not None
    assert found.every.seconds.count == 2
    assert found.dice is not None
    assert found.dice.count == 4


def test_an_edit_counts_as_it_is_now_on_the_day_of_the_first(pool: Pool) -> None:
    project = add_project(pool)
    (first,) = add_work(pool, project, "ana", unedited=True, days_ago=5)
    with pool.write() as session:
        before = session.get_one(Label, first)
        before.current = False
        task = before.task_id
        again = {"ls_annotation_id": before.ls_annotation_id, "version": 2, "ls_updated_at": NOW}
        row = Label(task_id=task, author="ana", lead_time=70.0, shown="model", unedited=False, agreement={}, **again)
        session.add(row)
    found = look(pool, project)
    assert (found.everyone.labels, found.everyone.edited.count) == (1, 1)
    assert next(iter(found.by_day)) == date(2026, 3, 26)
    assert found.by_day[date(2026, 3, 26)] == {"ana": 1}


def test_what_is_gone_or_another_projects_is_left_out(pool: Pool) -> None:
    project, other = add_project(pool), add_project(pool, ls_id=8)
    add_work(pool, other, "ana")
    add_work(pool, project, "ana", error="broken")
    add_work(pool, project, "ana", deleted=True, current=False)
    (gone,) = add_work(pool, project, "ana")
    with pool.write() as session:
        session.execute(update(Task).where(Task.id == session.get_one(Label, gone).task_id).values(deleted_at=NOW))
    found = look(pool, project)
    assert found.persons == []
    assert (found.everyone.labels, found.everyone.share, found.everyone.saving, found.alarms) == (0, None, None, [])


def test_time_saved_is_told_where_enough_was_measured(pool: Pool) -> None:
    project = add_project(pool)
    add_work(pool, project, "ana", FEWEST, seconds=30.0)
    add_work(pool, project, "ana", FEWEST - 1, shown="blind", seconds=90.0)
    assert look(pool, project).everyone.saving is None
    add_work(pool, project, "ana", 1, shown="blind", seconds=90.0)
    assert look(pool, project).everyone.saving == pytest.approx(2 / 3)


def test_time_saved_is_that_of_annotators_who_did_both(pool: Pool) -> None:
    """Who never annotates blind would make the masks look quicker, or slower, than they are."""
    project = add_project(pool)
    add_work(pool, project, "ana", FEWEST, seconds=30.0)
    add_work(pool, project, "ana", FEWEST, shown="blind", seconds=60.0)
    add_work(pool, project, "kim", 50, seconds=1.0)
    found = look(pool, project)
    assert found.everyone.saving == 0.5
    assert found.everyone.masked.count == FEWEST + 50
    assert [person.saving for person in found.persons] == [None, 0.5]


def test_time_saved_is_held_against_the_same_annotator(pool: Pool) -> None:
    """Masks save nothing: Ana is quick and made hardly any blind, Ben is slow and made most of them."""
    project = add_project(pool)
    add_work(pool, project, "ana", 200, seconds=10.0)
    add_work(pool, project, "ana", 1, shown="blind", seconds=10.0)
    add_work(pool, project, "ben", 20, seconds=60.0)
    add_work(pool, project, "ben", 10, shown="blind", seconds=60.0)
    found = look(pool, project)
    assert (found.everyone.saving, found.everyone.paces) == (0.0, [1.0])
    assert [(person.name, person.saving) for person in found.persons] == [("ana", None), ("ben", 0.0)]
    add_work(pool, project, "ana", 2 * FEWEST, shown="blind", seconds=20.0)
    assert look(pool, project).everyone.saving == 0.25, "halfway between a half and nothing"


def test_who_came_with_a_better_model_is_no_alarm(pool: Pool) -> None:
    """Of the first version little may be left, of the second most: that is what both annotators do."""
    project = add_project(pool)
    add_work(pool, project, "ana", 40, version="v1", unedited=False)
    add_work(pool, project, "ana", 20, version="v1", shown="blind", dice={"Tumor": 0.5})
    add_work(pool, project, "kim", 35, version="v5", unedited=True)
    add_work(pool, project, "kim", 5, version="v5", unedited=False)
    add_work(pool, project, "kim", 9, version="v5", shown="blind", dice={"Tumor": 0.9})
    found = look(pool, project)
    assert (found.alarms, found.tested) == ([], {"blind": 1})
    add_work(pool, project, "kim", 1, version="v5", shown="blind", dice={"Tumor": 0.9})
    assert (look(pool, project).alarms, look(pool, project).tested) == ([], {"blind": 2})
    add_work(pool, project, "kim", 12, version="v5", shown="blind", dice={"Tumor": 0.5})
    assert [(alarm.name, alarm.against) for alarm in look(pool, project).alarms] == [("kim", "blind")]


def test_a_team_with_one_who_does_not_look(pool: Pool) -> None:
    """Found against blind images and against the peers; the unknown annotator is one of its own."""
    project = add_project(pool, labels=("Tumor", "Cyst"))
    with pool.write() as session:
        session.get_one(Project, project).blind_share = 0.1
    add_team(pool, project, now=NOW)
    found = look(pool, project)
    assert [(alarm.name, alarm.against) for alarm in found.alarms] == [
        ("kim@clinic.example", "blind"),
        ("kim@clinic.example", "peers"),
    ]
    assert [person.name for person in found.persons] == [
        "ana@clinic.example",
        "ben@clinic.example",
        "kim@clinic.example",
        "",
    ]
    assert (found.blind, found.blind_share) == (24, 0.1)
    assert found.tested == {"blind": 3, "peers": 3}
    assert found.everyone.saving is not None
    assert found.everyone.saving > 0.3
    assert found.everyone.alone.uncounted == 3
    assert look(pool, project, days=None).everyone.labels == found.everyone.labels
    assert min(found.by_day) >= (NOW - timedelta(days=40)).date()
