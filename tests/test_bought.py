"""What batches bought: nothing is counted twice, credited to another, or compared on other images."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pool_fixture import add_label, add_model, add_project, add_task

from maskloop_backend.overview.models import read_models
from maskloop_backend.report.bought import Bought, find_bought
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Batch, BatchItem, Label, Model, Project, Round, Snapshot

START = datetime(2026, 1, 6, tzinfo=UTC)


class Story:
    """A project whose batches, labels and models are made one after the other."""

    def __init__(self, pool: Pool, tasks: int) -> None:
        self.pool, self.project = pool, add_project(pool)
        self.tasks = [add_task(pool, self.project, number) for number in range(1, tasks + 1)]

    def batch(self, number: int, places: range, state: str = "closed") -> int:
        with self.pool.write() as session:
            row = Batch(project_id=self.project, number=number, strategy="uncertainty", state=state)
            row.created_at = START + timedelta(days=number)
            session.add(row)
            session.flush()
            for position, place in enumerate(places, 1):
                session.add(
                    BatchItem(
                        batch_id=row.id, task_id=self.tasks[place], position=position, slot="uncertain", reason=""
                    )
                )
            return row.id

    def label(self, places: range, batch: int | None = None) -> list[int]:
        found = [add_label(self.pool, self.tasks[place], minute=place) for place in places]
        with self.pool.write() as session:
            for each in found:
                session.get_one(Label, each).batch_id = batch
        return found

    def model(self, labels: list[int], *, dice: float, images: int, **decision: Any) -> int:
        number = add_model(self.pool, self.project, f"model of {len(labels)} labels".encode())
        with self.pool.write() as session:
            snapshot = Snapshot(project_id=self.project, digest="0" * 64, label_ids=labels)
            session.add(snapshot)
            session.flush()
            model = session.get_one(Model, number)
            figure = {"mean": dice, "low": dice - 0.1, "high": dice + 0.1, "images": images}
            model.snapshot_id, model.metrics = snapshot.id, {"dice": {"overall": figure, "labels": {}}}
            model.parent_id = decision.pop("parent", None)
            done = Round(project_id=self.project, snapshot_id=snapshot.id, cause="labels", state="promoted")
            done.model_id, done.decision = number, decision
            session.add(done)
        return number

    def bought(self) -> list[Bought]:
        with self.pool.read() as session:
            project = session.get_one(Project, self.project)
            return find_bought(session, self.project, read_models(session, project))


@pytest.fixture
def story(pool: Pool) -> Story:
    return Story(pool, 12)


def test_a_label_counts_for_the_batch_in_which_it_was_made(story: Story) -> None:
    """Neither for one that was undone before, nor for one that was closed before."""
    story.batch(1, range(4), state="undone")
    second = story.batch(2, range(6))
    story.label(range(3), second)
    story.label(range(3, 5))
    found = story.bought()
    assert [(each.batch.number if each.batch else None, each.labels) for each in found] == [(1, 0), (2, 3), (None, 2)]


def test_batches_that_were_learnt_together_are_learnt(story: Story) -> None:
    """The first of two that one training took has no figures of its own; the third waits."""
    numbers = [story.batch(number, range(4 * number - 4, 4 * number)) for number in (1, 2, 3)]
    before = story.model([], dice=0.5, images=8)
    first, second = (story.label(range(4 * n, 4 * n + 4), numbers[n]) for n in (0, 1))
    after = story.model(first + second, dice=0.6, images=8)
    found = story.bought()
    assert [each.learnt for each in found] == [True, True, False]
    assert [each.after.model if each.after else None for each in found] == [None, after, None]
    assert found[1].before is not None
    assert found[1].before.model == before
    assert [each.gain for each in found] == [None, pytest.approx(0.1), None]


def test_a_gain_compares_on_the_same_images(story: Story) -> None:
    """Validation has grown by the batch's hard images: the gate's comparison counts, and without it there is none."""
    batch = story.batch(1, range(4))
    before = story.model([], dice=0.81, images=8)
    labels = story.label(range(4), batch)
    story.model(labels, dice=0.74, images=16)
    assert [each.gain for each in story.bought()] == [None]
    story.model(labels * 2, dice=0.74, images=16, parent=before, champion=0.70, challenger=0.74)
    assert [each.gain for each in story.bought()] == [pytest.approx(0.04)]
