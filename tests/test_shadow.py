"""A model in shadow: what it is asked, what it is compared on, and what people are told."""

import json
from datetime import timedelta

import numpy as np
import pytest
from command_fixture import Command
from pool_fixture import add_label, add_model, add_project, add_task
from valkey_fixture import Valkey

from maskloop_backend.readiness import readiness
from maskloop_backend.sync.work import enqueue_shadow
from maskloop_learner.pool.masks import encode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Label, Model, Prediction, Project, Score, Task, utcnow
from maskloop_learner.settings import Settings
from maskloop_learner.train.gate import Rules, decide
from maskloop_learner.train.registry import ensure_version, set_champion
from maskloop_learner.train.shadow import ShadowReport, begin_shadow, end_shadow, report_shadow, shadow_of
from maskloop_learner.train.slices import Case
from maskloop_queue.queues import gpu_queue, score_job_id

PROJECT = 1


class Shadowed:
    """A project with a champion, model 1, and a model in shadow, model 2; task 1 was labelled before."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self.pool, self.settings = pool, settings
        add_project(pool)
        self.old = add_label(pool, add_task(pool, PROJECT, 1))
        self.versions = []
        for weights in (b"champion", b"shadow"):
            model_id = add_model(pool, PROJECT, weights)
            with pool.write() as session:
                project, model = session.get_one(Project, PROJECT), session.get_one(Model, model_id)
                self.versions.append(ensure_version(session, project, model, settings))
        with pool.write() as session:
            set_champion(session, project_id=PROJECT, model_id=1, version_id=self.versions[0], fence=0, by="test")
            begin_shadow(session, PROJECT, 2, by="test")

    def label(self, number: int, *, blind: bool = False, group: str = "") -> str:
        """A task that is labelled now: rows 2 to 7, columns 3 to 11; returns its image."""
        task_id = add_task(self.pool, PROJECT, number)
        add_label(self.pool, task_id)
        with self.pool.write() as session:
            task = session.get_one(Task, task_id)
            task.blind, task.group_key = blind, group
            return task.image_digest or ""

    def predict(self, which: int, image: str, rows: int) -> None:
        """The champion (0) or the model in shadow (1) draws so many of the label's six rows."""
        mask = np.zeros((16, 24), bool)
        mask[2 : 2 + rows, 3:12] = True
        digest = self.pool.store.put("masks", encode_mask(mask))
        with self.pool.write() as session:
            prediction = Prediction(version_id=self.versions[which], image_digest=image, uncertainty=0.1)
            session.add(prediction)
            session.flush()
            figures = dict.fromkeys(("predictive_entropy", "expected_entropy", "mutual_information", "variance"), 0.1)
            score = Score(
                prediction_id=prediction.id, label="Tumor", mask_digest=digest, method="m", samples=1, **figures
            )
            session.add(score)

    def report(self, **rules: object) -> ShadowReport:
        found = report_shadow(self.pool, PROJECT, self.settings, Rules(**rules))  # type: ignore[arg-type]
        assert found is not None
        return found


@pytest.fixture
def shadowed(pool: Pool, settings: Settings) -> Shadowed:
    return Shadowed(pool, settings)


def test_only_what_was_labelled_since_is_asked_and_once(shadowed: Shadowed, shared_valkey: Valkey) -> None:
    """The old label and unlabelled images are not; an image that is predicted is not asked again."""
    conn, pool = shared_valkey.connect(), shadowed.pool
    add_task(pool, PROJECT, 50)
    assert enqueue_shadow(pool, conn, PROJECT, shadowed.settings) == 0
    images = [shadowed.label(number) for number in (2, 3)]
    shadowed.predict(1, images[0], 6)
    assert enqueue_shadow(pool, conn, PROJECT, shadowed.settings) == 1
    assert gpu_queue(conn).job_ids == [score_job_id(shadowed.versions[1], images[1])]
    enqueue_shadow(pool, conn, PROJECT, shadowed.settings)
    assert gpu_queue(conn).count == 1
    shadowed.settings.threshold = 0.4
    assert enqueue_shadow(pool, conn, PROJECT, shadowed.settings) == 2, "another threshold is another version"
    with pool.write() as session:
        assert end_shadow(session, PROJECT, by="test") == 2
        assert end_shadow(session, PROJECT, by="test") is None
    assert enqueue_shadow(pool, conn, PROJECT, shadowed.settings) == 0


def test_both_are_compared_on_new_labels(shadowed: Shadowed) -> None:
    """Six rows of six against four: Dice 1 and 0.8. What one has not predicted waits; blind ones stand apart."""
    blind, seen, open_ = shadowed.label(2, blind=True), shadowed.label(3), shadowed.label(4)
    for image, rows in (blind, (4, 6)), (seen, (6, 4)):
        for which in (0, 1):
            shadowed.predict(which, image, rows[which])
    shadowed.predict(0, open_, 6)
    report = shadowed.report()
    assert (report.model_id, report.waiting, report.decision.images) == (2, 1, 2)
    assert report.decision.champion == report.decision.challenger == pytest.approx(0.9)
    assert report.decision.outcome == "shadow"
    assert report.blind is not None
    assert (report.blind.images, report.blind.challenger) == (1, 1.0)
    assert report.blind.champion == pytest.approx(0.8)


def test_what_either_has_seen_says_nothing(shadowed: Shadowed) -> None:
    """Images of a snapshot, though labelled anew, and others of their patients."""
    from test_contest import add_snapshot, item

    images = {number: shadowed.label(number, group=group) for number, group in ((2, ""), (3, "Eve"), (4, "Ann"))}
    for image in images.values():
        for which in (0, 1):
            shadowed.predict(which, image, 6)
    add_snapshot(shadowed.pool, PROJECT, 1, item(images[2], "train"))
    add_snapshot(shadowed.pool, PROJECT, 2, item("another", "validation", group="Eve"))
    report = shadowed.report()
    assert (report.decision.images, report.waiting) == (1, 0)


def test_an_image_that_lacks_the_label_counts_as_empty(shadowed: Shadowed) -> None:
    image = shadowed.label(2)
    with shadowed.pool.write() as session:
        session.get_one(Label, 2).masks = {}
    shadowed.predict(0, image, 0)
    shadowed.predict(1, image, 6)
    (empty,) = [each for each in shadowed.report().decision.slices if each.kind == "empty"]
    assert (empty.champion, empty.challenger) == (1.0, 0.0)


def test_a_model_that_serves_by_now_is_not_in_shadow(shadowed: Shadowed) -> None:
    with shadowed.pool.write() as session:
        set_champion(session, project_id=PROJECT, model_id=2, version_id=shadowed.versions[1], fence=1, by="test")
    with shadowed.pool.read() as session:
        assert shadow_of(session, PROJECT) is None
    assert report_shadow(shadowed.pool, PROJECT, shadowed.settings, Rules()) is None


def test_beginning_twice_keeps_the_time(shadowed: Shadowed) -> None:
    """A job that runs again does not throw away what was labelled since."""
    with shadowed.pool.write() as session:
        session.get_one(Champion, PROJECT).challenger_since = before = utcnow() - timedelta(days=1)
        begin_shadow(session, PROJECT, 2, by="test")
        assert session.get_one(Champion, PROJECT).challenger_since == before


def test_people_are_told_what_waits_and_how_it_does(shadowed: Shadowed, command: Command) -> None:
    """By status, with the next step, and by `maskloop models shadow` with tables of both comparisons."""
    with shadowed.pool.read() as session:
        found = readiness(session, session.get_one(Project, PROJECT), shadowed.settings)
    assert found.shadow == 2
    assert any("Model 2 waits for a person" in need.what and "models promote 2" in need.fix for need in found.needs)
    case = Case(image="a", group="a", label="Tumor", area=0.1, champion=0.5, challenger=0.6)
    with shadowed.pool.write() as session:
        session.get_one(Model, 2).metrics = {"gate": decide([case], rules=Rules()).to_dict()}
    code, out, _ = command("models", "shadow")
    assert code == 0
    assert "model 2 is in shadow since" in out
    assert "No image that was labelled since is predicted by both yet (0 wait)" in out
    image = shadowed.label(2, blind=True)
    for which, rows in (0, 4), (1, 6):
        shadowed.predict(which, image, rows)
    code, out, _ = command("models", "shadow")
    assert "On the validation set" in out
    assert "On images labelled since" in out
    assert "annotated without a mask shown" in out
    assert "+0.200" in out
    told = json.loads(command("models", "shadow", "--json")[1])
    assert (told["model"], told["since_then"]["images"], told["validation"]["images"]) == (2, 1, 1)
    with shadowed.pool.write() as session:
        end_shadow(session, PROJECT, by="test")
    assert "no model waits in shadow" in command("models", "shadow")[1]
    assert command("models", "shadow", "--json")[1].strip() == "null"
