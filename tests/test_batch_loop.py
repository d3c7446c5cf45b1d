"""A batch on a real demo: from the command to the annotators and back, through a killed process."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from demo_fixture import Demo, wait_for
from sqlalchemy import func, select

from maskloop_backend.labelstudio.client import Annotation, LabelStudio
from maskloop_learner.pool.batches import find_batch
from maskloop_learner.pool.members import members
from maskloop_learner.pool.planning import Asked, lock_batch, plan_batch
from maskloop_learner.pool.schema import Batch, Push
from maskloop_learner.select.options import Options
from maskloop_learner.select.order import LEAST

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SIZE, LARGE = 4, 20
SOON = 30.0
"""Seconds until what was decided is in Label Studio, on a loaded machine."""


@pytest.fixture
def admin(demo: Demo) -> Iterator[LabelStudio]:
    """The demo's user."""
    with demo.client() as client:
        yield client


def create(demo: Demo, *words: str) -> list[int]:
    """A batch by the command; returns its tasks in its order."""
    done = demo.command("batch", "create", "--size", str(SIZE), "--json", *words)
    assert done.returncode == 0, done.stderr
    return [item["task"] for item in json.loads(done.stdout)["items"]]


def batch(demo: Demo) -> Batch:
    """The open batch, or the last."""
    with demo.pool.read() as session:
        return find_batch(session, demo.project().id)


def front(demo: Demo, admin: LabelStudio, count: int = SIZE) -> list[int]:
    """The unlabelled tasks that stand first in the Data Manager."""
    unlabelled = {row.ls_id for row in demo.ranking()}
    ordered = admin.ordered_tasks(demo.ls_id, "tasks:predictions_score")
    return [task for task, _ in ordered if task in unlabelled][:count]


def tabs(demo: Demo, admin: LabelStudio) -> dict[str, int]:
    """Title of every tab of a batch -> its id."""
    found = {data["title"]: view for view, data in admin.views(demo.ls_id).items()}
    return {title: view for title, view in found.items() if title.startswith("Batch ")}


def shown(demo: Demo, admin: LabelStudio, title: str) -> list[int]:
    """The tasks of a tab, in its order; empty while it is not there."""
    view = tabs(demo, admin).get(title)
    params: dict[str, Any] = {"project": demo.ls_id, "view": view, "page": 1, "page_size": 100}
    return [] if view is None else [row["id"] for row in admin.json("GET", "api/tasks/", params=params)["tasks"]]


def scores(demo: Demo, admin: LabelStudio) -> dict[int, float | None]:
    """Unlabelled task -> its serving score in Label Studio."""
    unlabelled = {row.ls_id for row in demo.ranking()}
    return {
        row.task: row.score for row in admin.predictions_index(demo.ls_id, demo.version()) if row.task in unlabelled
    }


def test_two_annotators_label_a_batch_and_go_on(demo: Demo, admin: LabelStudio) -> None:
    """In its order, none twice; the labels say so, the batch closes by itself, and then comes the most uncertain."""
    demo.settle()
    wanted = create(demo, "--strategy", "random", "--seed", "7")
    took = wait_for("the batch in front", lambda: front(demo, admin) == wanted, SOON)
    title = f"Batch {batch(demo).number}: random, {SIZE} images"
    wait_for("the tab", lambda: shown(demo, admin, title) == wanted, SOON)
    assert list(tabs(demo, admin)) == [title]
    print(f"\na batch of {SIZE} is served after {took:.1f} s")
    number = batch(demo).id
    served: list[int] = []
    made: list[Annotation] = []
    with demo.new_user("batch-one@maskloop.test") as one, demo.new_user("batch-two@maskloop.test") as two:
        for _ in range(SIZE // 2):
            # Both have a task open before either submits.
            pair = [(person, person.next_task(demo.ls_id)) for person in (one, two)]
            for person, task in pair:
                assert task is not None
                assert task["predictions"][0]["result"], "the mask is drawn already"
                served.append(task["id"])
                made.append(demo.answer(person, task["id"], parent=task["predictions"][0]["id"]))
        assert served == wanted
        wait_for("the end of the batch", lambda: batch(demo).state == "closed", SOON)
        wait_for("the tab to go", lambda: not tabs(demo, admin), SOON)
        busy = admin.busy_tasks(demo.ls_id)
        first = next(row.ls_id for row in demo.ranking() if row.ls_id not in busy)
        after = one.next_task(demo.ls_id)
        assert after is not None
        assert after["id"] == first
        made.append(demo.answer(one, after["id"]))
        wait_for("the label outside", lambda: demo.labels(after["id"]), SOON)
    tagged = {task: [label.batch_id for label in demo.live(task)] for task in [*wanted, after["id"]]}
    assert tagged == {**{task: [number] for task in wanted}, after["id"]: [None]}
    for annotation in made:
        admin.delete_annotation(annotation.id)
    wait_for("the deletions", lambda: not any(demo.live(task) for task in tagged), SOON)
    assert all(label.batch_id == number for task in wanted for label in demo.labels(task))


def test_a_batch_is_in_order_after_a_kill_and_leaves_the_order_before_when_undone(
    demo: Demo, admin: LabelStudio
) -> None:
    """`sync` is killed while it changes scores: it goes on when it is back; undone, every score is what it was."""
    demo.settle()
    wait_for("the scores of now", lambda: scores(demo, admin) == plain(demo), SOON)
    before = scores(demo, admin)
    [sync] = demo.find_processes("maskloop_backend sync")
    # Not by the command: it would end long after the scores are changed.
    asked = Asked(size=LARGE, strategy="random", options=Options(keep_duplicates=True))
    number = lock_batch(demo.pool, demo.project().id, plan_batch(demo.pool, demo.project().id, asked), by="test").number
    with demo.pool.read() as session:
        wanted = [row.ls_id for row in members(session, find_batch(session, demo.project().id, number))]
    wait_for("the first scores of the batch", lambda: placed(demo) > 0, SOON)
    sync.kill()
    half = placed(demo)
    assert 0 < half < LARGE, "it was killed on the way"
    took = wait_for("the batch in front", lambda: front(demo, admin, LARGE) == wanted, 120.0)
    print(f"\n{LARGE} images are served in their order {took:.1f} s after sync was killed at the {half}th")
    assert demo.command("batch", "create", "--size", "2").returncode == 1
    started = time.monotonic()
    assert demo.command("batch", "undo").returncode == 0
    wait_for("the scores before", lambda: scores(demo, admin) == before, SOON)
    wait_for("the tab to go", lambda: not tabs(demo, admin), SOON)
    print(f"a batch is undone in Label Studio after {time.monotonic() - started:.1f} s, with the command's own start")
    demo.settle()


def placed(demo: Demo) -> int:
    """How many predictions are noted to stand where only a batch may."""
    with demo.pool.read() as session:
        statement = select(func.count()).select_from(Push).where(Push.gone_at.is_(None), Push.score < LEAST)
        return session.scalar(statement) or 0


def plain(demo: Demo) -> dict[int, float]:
    """Unlabelled task -> 1 - uncertainty."""
    return {row.ls_id: round(1 - row.uncertainty, 9) for row in demo.ranking()}
