"""Tasks of several images, tags of several kinds: what is pushed, answered, learnt and ranked of each image."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest
from pool_fixture import add_model, add_task, png_bytes
from sqlalchemy import select
from web_fixture import add_prediction, add_version, serving

from maskloop_backend.labelstudio.client import AnnotationHead, TaskRow
from maskloop_backend.labelstudio.controls import Control, Interface
from maskloop_backend.labelstudio.records import Annotation
from maskloop_backend.masks.regions import from_regions, to_regions
from maskloop_backend.sync.annotations import take_annotation
from maskloop_backend.sync.config import describe_changes, follow_interface
from maskloop_backend.sync.pull import Pulled, Puller
from maskloop_backend.sync.push import Pusher
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.prompting import follow_rules, rules_digest, set_prompts
from maskloop_learner.pool.queries import ranking
from maskloop_learner.pool.schema import Image, Label, Project, PromptSet, Push, Snapshot, Task
from maskloop_learner.pool.snapshot import NoLabels, freeze_snapshot, load_manifest, newest_labels
from maskloop_learner.settings import Settings
from maskloop_queue.triggers import new_labels

BEFORE = Control("brush", "before_mask", "before", "scan_before", ("Tumor", "Edema"))
AFTER = Control("bitmask", "after_mask", "after", "scan_after", ("Tumor",))
TWO = Interface((BEFORE, AFTER))
NOW = datetime(2026, 1, 5, tzinfo=UTC)


class NoCalls:
    """In place of Label Studio's client where nothing must be asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"Label Studio was asked for {name}")


@pytest.fixture
def project(pool: Pool) -> int:
    """A project whose tasks show two scans."""
    with pool.write() as session:
        row = Project(ls_url="http://127.0.0.1:1", ls_id=1, title="two scans", control=TWO.as_json(), prompts={})
        row.prompts = {"Tumor": "tumor", "Edema": "edema"}
        session.add(row)
        session.flush()
        return row.id


def add_pair(pool: Pool, project: int, ls_id: int) -> tuple[Task, Task]:
    """A task with both of its images."""
    for number, part in enumerate(("scan_before", "scan_after")):
        add_task(pool, project, ls_id, data=png_bytes(2 * ls_id + number), part=part)
    with pool.write() as session:
        for task in session.scalars(select(Task).where(Task.ls_id == ls_id)):
            set_prompts(session, session.get_one(Project, project), task)
    return parts(pool, ls_id)


def parts(pool: Pool, ls_id: int) -> tuple[Task, Task]:
    """The two images of a task, in the label config's order."""
    with pool.read() as session:
        first, second = session.scalars(select(Task).where(Task.ls_id == ls_id).order_by(Task.id))
    return first, second


def pusher(pool: Pool) -> Pusher:
    return Pusher(pool=pool, client=NoCalls(), beat=lambda: None)  # type: ignore[arg-type]


def predict(pool: Pool, task: Task, uncertainty: float) -> None:
    assert task.image_digest
    add_prediction(pool, "v1", task.image_digest, uncertainty=uncertainty, prompts=task.prompt_digest)


def test_an_image_is_asked_for_its_own_labels_only(pool: Pool, project: int) -> None:
    """The first scan is asked what all are asked; the second, without Edema, has a set of prompts of its own."""
    first, second = add_pair(pool, project, 5)
    assert (first.prompt_digest, first.prompts) == ("", {})
    assert set(second.prompts) == {"Tumor"}
    with pool.read() as session:
        assert set(session.get_one(PromptSet, second.prompt_digest).prompts) == {"Tumor"}


def test_a_task_is_pushed_once_all_its_images_are_predicted(pool: Pool, project: int) -> None:
    """One prediction per task: each image's regions with its own tag, and the score of the most uncertain image."""
    add_version(pool, project, add_model(pool, project), "v1")
    first, second = add_pair(pool, project, 5)
    predict(pool, first, 0.2)
    assert pusher(pool)._ready(project, "v1") == []
    predict(pool, second, 0.7)
    (ready,) = pusher(pool)._ready(project, "v1")
    assert (ready.ls_id, [part for part, _ in ready.parts]) == (5, ["scan_before", "scan_after"])
    with pool.read() as session:
        row = session.get_one(Project, project)
    ((sent,),) = pusher(pool)._chunks(row, [ready])
    assert (sent["task"], sent["score"], sent["model_version"]) == (5, 0.3, "v1")
    drawn = [(region["from_name"], region["to_name"], region["type"]) for region in sent["result"]]
    assert drawn == [("before_mask", "before", "brushlabels"), ("after_mask", "after", "bitmasklabels")]
    assert len({region["id"] for region in sent["result"]}) == 2
    for control in (BEFORE, AFTER):
        masks = from_regions(sent["result"], controls=[control], width=24, height=16)
        assert masks["Tumor"].sum() == 7 * 10


def test_an_image_that_cannot_be_read_does_not_hold_up_the_other(pool: Pool, project: int) -> None:
    add_version(pool, project, add_model(pool, project), "v1")
    first, second = add_pair(pool, project, 5)
    predict(pool, first, 0.2)
    with pool.write() as session:
        row = session.get_one(Task, second.id)
        row.state, row.error = "failed", "it is a text"
    (ready,) = pusher(pool)._ready(project, "v1")
    assert [part for part, _ in ready.parts] == ["scan_before"]


def test_a_task_that_is_pushed_is_not_pushed_again_when_its_first_image_leaves_the_config(
    pool: Pool, project: int
) -> None:
    add_version(pool, project, add_model(pool, project), "v1")
    first, second = add_pair(pool, project, 5)
    predict(pool, second, 0.7)
    with pool.write() as session:
        session.add(Push(ls_prediction_id=9, project_id=project, task_id=first.id, version_id="v1", score=0.3))
        session.get_one(Task, first.id).deleted_at = NOW
    assert pusher(pool)._ready(project, "v1") == []


def test_the_ranking_has_each_task_once_by_its_most_uncertain_image(pool: Pool, project: int) -> None:
    add_version(pool, project, add_model(pool, project), "v1")
    for ls_id, (one, other) in {5: (0.2, 0.7), 6: (0.5, 0.1)}.items():
        first, second = add_pair(pool, project, ls_id)
        predict(pool, first, one)
        predict(pool, second, other)
    with pool.read() as session:
        found = ranking(session, project, "v1")
    assert [(row.ls_id, row.uncertainty) for row in found] == [(5, 0.7), (6, 0.5)]
    assert found[0].task_id == parts(pool, 5)[1].id


@pytest.fixture
def web(pool: Pool, settings: Settings) -> Iterator[httpx.Client]:
    settings.predict_deadline = 1.0
    with serving(pool, settings) as client:
        yield client


def test_predict_answers_with_all_images(pool: Pool, project: int, web: httpx.Client) -> None:
    add_version(pool, project, add_model(pool, project), "v1")
    for task, uncertainty in zip(add_pair(pool, project, 5), (0.2, 0.7), strict=True):
        predict(pool, task, uncertainty)
    body = {"tasks": [{"id": 5, "data": {}}], "project": "1.1"}
    [result] = web.post("/predict", content=json.dumps(body)).json()["results"]
    assert (result["score"], result["model_version"]) == (0.3, "v1")
    assert [region["to_name"] for region in result["result"]] == ["before", "after"]


def annotation(**changes: Any) -> Annotation:
    mask = np.zeros((16, 24), bool)
    mask[2:9, 3:12] = True
    result = to_regions({"Tumor": mask}, controls=[BEFORE], region_prefix="a")
    fields: dict[str, Any] = {
        "id": 31,
        "task": 5,
        "result": result,
        "author": 2,
        "cancelled": False,
        "ground_truth": False,
        "lead_time": 3.5,
        "parent_prediction": None,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Annotation(**fields | changes)


def take(pool: Pool, project: int, task: Task, body: Annotation) -> Label:
    with pool.read() as session:
        row, image = session.get_one(Project, project), session.get_one(Image, task.image_digest)
        task = session.get_one(Task, task.id)
    take_annotation(pool, row, task, image, body, authors={2: "ann@example.org"})
    with pool.read() as session:
        statement = select(Label).where(Label.task_id == task.id, Label.current)
        return session.scalars(statement).one()


def test_an_annotation_becomes_a_label_of_each_image(pool: Pool, project: int) -> None:
    """Its masks go to the image they are drawn on; the other image has none, and only its own labels are empty."""
    first, second = add_pair(pool, project, 5)
    drawn, empty = (take(pool, project, task, annotation()) for task in (first, second))
    assert (set(drawn.masks), drawn.known) == ({"Tumor"}, ["Tumor", "Edema"])
    assert (empty.masks, empty.known, empty.error) == ({}, ["Tumor"], None)
    for ls_id in (6, 7):
        for task in add_pair(pool, project, ls_id):
            take(pool, project, task, annotation(id=ls_id))
    snapshot_id = freeze_snapshot(pool, project, share=0.2)
    with pool.read() as session:
        manifest = load_manifest(pool, session.get_one(Snapshot, snapshot_id))
    items = {item["image"]: item for item in manifest["items"]}
    assert "known" not in items[str(first.image_digest)]
    assert items[str(second.image_digest)]["known"] == ["Tumor"]


def test_a_label_that_is_added_is_unknown_on_older_annotations(pool: Pool, project: int) -> None:
    """What stays is kept; images labelled before are no examples of the new label's absence."""
    first, _ = add_pair(pool, project, 5)
    old = take(pool, project, first, annotation())
    wider = Interface((Control("brush", "before_mask", "before", "scan_before", ("Tumor", "Edema", "Cyst")), AFTER))
    with pool.write() as session:
        row = session.get_one(Project, project)
        follow_interface(row, wider)
        row.prompts = {**row.prompts, "Cyst": "cyst"}
        changed, last = follow_rules(session, row, after=0, limit=10)
        assert (changed, last) == (0, None), "the first image is asked what all are asked, the second as before"
        assert row.prompted_with == rules_digest(row)
    with pool.read() as session:
        kept = session.get_one(Project, project)
        assert kept.control["revision"] == 1
        assert session.get_one(Label, old.id).known == ["Tumor", "Edema"]
    again = take(pool, project, first, annotation(updated_at=NOW.replace(day=6)))
    assert again.known == ["Tumor", "Edema", "Cyst"]


def test_nothing_is_known_of_an_image_that_joined_its_task_after_the_annotation(pool: Pool, project: int) -> None:
    """Its annotator never saw it, so it is no example of an image without a tumor; once edited, it is."""
    with pool.write() as session:
        follow_interface(session.get_one(Project, project), Interface((BEFORE,)))
    add_task(pool, project, 5, data=png_bytes(10), part="scan_before")
    with pool.read() as session:
        [first] = session.scalars(select(Task))
    assert take(pool, project, first, annotation()).known == ["Tumor", "Edema"]
    with pool.write() as session:
        follow_interface(session.get_one(Project, project), TWO)
    add_task(pool, project, 5, data=png_bytes(11), part="scan_after")
    second = parts(pool, 5)[1]
    assert take(pool, project, second, annotation()).known == []
    assert take(pool, project, second, annotation(updated_at=NOW.replace(day=6))).known == ["Tumor"]


def test_such_an_image_is_no_label_to_learn_from(pool: Pool, project: int) -> None:
    """A tag for a second image, put into a config with many labels, starts no training by itself."""
    first, second = add_pair(pool, project, 5)
    take(pool, project, first, annotation())
    take(pool, project, second, annotation())
    with pool.write() as session:
        session.scalars(select(Label).where(Label.task_id == second.id)).one().known = []
    with pool.read() as session:
        assert list(newest_labels(session, project)) == [first.image_digest]


def test_a_label_that_nobody_looked_for_yet_is_not_trained(pool: Pool, project: int) -> None:
    """Its masks would be noise; what is learnt is told apart from what is only in the config."""
    for ls_id in (5, 6, 7):
        take(pool, project, add_pair(pool, project, ls_id)[0], annotation(id=ls_id))
    wider = Interface((Control("brush", "before_mask", "before", "scan_before", ("Tumor", "Edema", "Cyst")), AFTER))
    with pool.write() as session:
        follow_interface(session.get_one(Project, project), wider)
    snapshots = [freeze_snapshot(pool, project, share=0.2)]
    take(pool, project, parts(pool, 5)[0], annotation(id=5, updated_at=NOW.replace(day=6)))
    take(pool, project, parts(pool, 6)[0], annotation(id=6, updated_at=NOW.replace(day=6)))
    snapshots.append(freeze_snapshot(pool, project, share=0.2))
    with pool.read() as session:
        found = [load_manifest(pool, session.get_one(Snapshot, each))["labels"] for each in snapshots]
    assert found == [["Tumor", "Edema"], ["Tumor", "Edema", "Cyst"]]
    with pool.write() as session:
        only = Control("brush", "before_mask", "before", "scan_before", ("Scar",))
        follow_interface(session.get_one(Project, project), Interface((only,)))
    with pytest.raises(NoLabels, match="no label to learn from"):
        freeze_snapshot(pool, project, share=0.2)
    with pool.read() as session:
        assert new_labels(session, project) == 0, "or a training would be refused once a second"


def test_an_image_whose_field_was_renamed_stays_known(pool: Pool, project: int) -> None:
    with pool.write() as session:
        follow_interface(session.get_one(Project, project), Interface((BEFORE,)))
    add_task(pool, project, 5, data=png_bytes(10), part="scan_before")
    with pool.read() as session:
        [first] = session.scalars(select(Task))
    take(pool, project, first, annotation(result=[]))
    renamed = Control("brush", "before_mask", "before", "scan", ("Tumor", "Edema"))
    with pool.write() as session:
        follow_interface(session.get_one(Project, project), Interface((renamed,)))
    add_task(pool, project, 5, data=png_bytes(10), part="scan")
    assert take(pool, project, parts(pool, 5)[1], annotation(result=[])).known == ["Tumor", "Edema"]


def test_a_config_with_other_tags_has_all_tasks_looked_at_again(pool: Pool, project: int) -> None:
    """However it was noticed, by sync or by `maskloop connect`: they may hold images of the new tags."""
    for interface, looked in ((TWO, True), (Interface((BEFORE,)), False)):
        with pool.write() as session:
            row = session.get_one(Project, project)
            row.synced_at = NOW
            follow_interface(row, interface)
        with pool.read() as session:
            assert (session.get_one(Project, project).synced_at is not None) == looked


def test_changes_of_a_config_are_said_in_words() -> None:
    renamed = Control("polygon", "before_mask", "before", "scan_before", ("Tumour", "Edema"))
    said = list(describe_changes(TWO, Interface((renamed,))))
    assert said == [
        "label 'Tumour' was added: it is predicted once a model has learnt it",
        "label 'Tumor' was removed: its masks are kept, and no longer predicted or learnt",
        "tag 'before_mask' is polygon on 'before' now, before brush",
        "tag 'after_mask' on $scan_after was removed",
    ]
    assert list(describe_changes(TWO, TWO)) == []


def test_tasks_are_taken_in_with_every_image_and_lose_those_that_left_the_config(pool: Pool, project: int) -> None:
    def puller() -> Puller:
        none: Any = NoCalls()
        settings = Settings(home=pool.store.url)
        return Puller(pool=pool, client=none, settings=settings, headers_for=lambda url: {}, beat=lambda: None)

    def look() -> Pulled:
        with pool.read() as session:
            row = session.get_one(Project, project)
        pulled = Pulled()
        puller()._take_tasks(row, [head], pulled)
        pulled.deleted = puller()._drop_tasks(row, {5})
        return pulled

    data = {"scan_before": "/data/a.png", "scan_after": "/data/b.png"}
    head = TaskRow(5, NOW, (AnnotationHead(31, NOW, False),), data)
    assert (look().tasks, look().tasks) == (1, 0)
    assert [(task.part, task.url) for task in parts(pool, 5)] == list(data.items())
    with pool.write() as session:
        follow_interface(session.get_one(Project, project), Interface((AFTER,)))
    pulled = look()
    assert (pulled.tasks, pulled.deleted) == (0, 0), "the task itself is still there"
    assert [task.deleted_at is None for task in parts(pool, 5)] == [False, True]
