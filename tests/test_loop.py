"""The whole loop on a real demo: masks, order, labels, training, the switch, and what is broken on the way."""

import json
import time
from collections.abc import Iterator, Sequence

import httpx
import pytest
from demo_fixture import Demo, wait_for
from sqlalchemy import select

from maskloop_backend.demo.host import load_account
from maskloop_backend.labelstudio.client import Annotation, LabelStudio
from maskloop_learner.pool.schema import Label, Prediction, Project, Round, Snapshot, Task
from maskloop_queue.triggers import new_labels

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SYNC_PERIOD = 10.0
"""Seconds, as the demo of the tests is set."""
SLACK = 10.0
"""Seconds that a loaded machine may need more."""


@pytest.fixture(scope="module")
def admin(demo: Demo) -> Iterator[LabelStudio]:
    """The demo's user."""
    with demo.client() as client:
        yield client


def say(what: str, seconds: float) -> None:
    """Print a figure for the record."""
    print(f"\n{what}: {seconds:.1f} s")


def free_tasks(demo: Demo, admin: LabelStudio, count: int) -> list[int]:
    """Unlabelled tasks that nobody has open, the least uncertain ones."""
    busy = admin.busy_tasks(demo.ls_id)
    return [row.ls_id for row in reversed(demo.ranking()) if row.ls_id not in busy][:count]


def test_every_unlabelled_task_has_one_scored_prediction(demo: Demo, admin: LabelStudio) -> None:
    """One prediction of the served version each, with the pool's uncertainty turned around as its score."""
    demo.settle()
    version = admin.project(demo.ls_id).model_version
    assert version == demo.version()
    scores = {row.task: row.score for row in admin.predictions_index(demo.ls_id, version)}
    ranked = demo.ranking()
    assert len(ranked) >= 5
    for row in ranked:
        assert scores[row.ls_id] == pytest.approx(1 - row.uncertainty, abs=1e-9)


def test_the_most_uncertain_task_comes_first(demo: Demo, admin: LabelStudio) -> None:
    """A fresh annotator is served the pool's first task; the Data Manager shows the pool's order."""
    busy = admin.busy_tasks(demo.ls_id)
    ranked = [row.ls_id for row in demo.ranking()]
    ordered = [task for task, _ in admin.ordered_tasks(demo.ls_id, "tasks:predictions_score")]
    assert [task for task in ordered if task in set(ranked)] == ranked
    with demo.new_user("fresh@maskloop.test") as annotator:
        served = annotator.next_task(demo.ls_id)
        assert served is not None
        assert served["id"] == next(task for task in ranked if task not in busy)
        (shown,) = [p for p in served["predictions"] if p["model_version"] == demo.version()]
        assert shown["result"], "the mask is drawn already"


def state(labels: Sequence[Label]) -> str:
    """What the pool knows of a task's only annotation, in a word."""
    if not labels:
        return "nothing"
    last = labels[-1]
    if last.deleted:
        return "deleted"
    return "skipped" if last.cancelled else f"label with {len(last.masks)} masks, version {last.version}"


class Hand:
    """Does what annotators do to five tasks, in two turns."""

    def __init__(self, demo: Demo, client: LabelStudio, tasks: Sequence[int]) -> None:
        self.demo, self.client = demo, client
        self.created, self.edited, self.deleted, self.skipped, self.unskipped = tasks
        self.annotations: dict[int, Annotation] = {}

    def begin(self) -> dict[int, str]:
        """Label three tasks, skip one; returns what the pool should know."""
        for task in (self.edited, self.deleted, self.skipped):
            self.annotations[task] = self.demo.answer(self.client, task)
        self.annotations[self.unskipped] = self.client.create_annotation(self.unskipped, [], cancelled=True)
        drawn = "label with 2 masks, version 1"
        return {self.edited: drawn, self.deleted: drawn, self.skipped: drawn, self.unskipped: "skipped"}

    def change(self) -> Iterator[tuple[int, str]]:
        """Create, edit, delete, skip and un-skip, one at a time; yields what the pool should know of the task."""
        self.annotations[self.created] = self.demo.answer(self.client, self.created)
        yield self.created, "label with 2 masks, version 1"
        edited = self.annotations[self.edited]
        self.client.update_annotation(edited.id, result=edited.result[:1])
        yield self.edited, "label with 1 masks, version 2"
        self.client.delete_annotation(self.annotations[self.deleted].id)
        yield self.deleted, "deleted"
        self.client.update_annotation(self.annotations[self.skipped].id, cancelled=True)
        yield self.skipped, "skipped"
        drawn = self.demo.regions(self.client, self.unskipped)
        self.client.update_annotation(self.annotations[self.unskipped].id, cancelled=False, result=drawn[:1])
        yield self.unskipped, "label with 1 masks, version 2"

    def arrived(self, wanted: dict[int, str]) -> bool:
        """Whether the pool knows it."""
        return all(state(self.demo.labels(task)) == what for task, what in wanted.items())

    def clean(self) -> None:
        """Delete all, so that the next test finds unlabelled tasks."""
        for annotation in self.annotations.values():
            self.client.delete_annotation(annotation.id)
        gone = dict.fromkeys(self.annotations, "deleted")
        wait_for("the deletions in the pool", lambda: self.arrived(gone), SYNC_PERIOD + SLACK)


def webhooks(demo: Demo, *, delete: bool = False) -> int:
    """How many webhooks the demo's Label Studio has; with `delete` they go."""
    headers = {"Authorization": f"Token {load_account(demo.home / 'demo').token}"}
    with httpx.Client(base_url=demo.url, headers=headers, timeout=30) as http:
        rows = http.get("/api/webhooks/").raise_for_status().json()
        for row in rows if delete else ():
            http.delete(f"/api/webhooks/{row['id']}/").raise_for_status()
    return len(rows)


def test_annotations_arrive_at_once_with_webhooks(demo: Demo, admin: LabelStudio) -> None:
    """Created, edited, deleted, skipped and un-skipped: each is in the pool within ten seconds."""
    assert webhooks(demo) == 1
    hand = Hand(demo, admin, free_tasks(demo, admin, 5))
    wanted = hand.begin()
    wait_for("the first annotations in the pool", lambda: hand.arrived(wanted), 10.0)
    took = []
    for task, what in hand.change():
        took.append(wait_for(f"task {task}: {what}", lambda: hand.arrived({task: what}), 10.0))  # noqa: B023
    say("label in the pool with webhooks, slowest of five kinds", max(took))
    hand.clean()


def test_annotations_arrive_within_the_sync_period_without_webhooks(demo: Demo, admin: LabelStudio) -> None:
    """Webhooks are hints only. `maskloop connect` puts the webhook back."""
    webhooks(demo, delete=True)
    hand = Hand(demo, admin, free_tasks(demo, admin, 5))
    wanted = hand.begin()
    wait_for("the first annotations in the pool", lambda: hand.arrived(wanted), SYNC_PERIOD + SLACK)
    wanted = dict(hand.change())
    took = wait_for("all five kinds in the pool", lambda: hand.arrived(wanted), SYNC_PERIOD + SLACK)
    say("labels in the pool without webhooks", took)
    hand.clean()
    connected = demo.command("connect", "--url", demo.url, "--project", str(demo.ls_id), "--json")
    assert connected.returncode == 0, connected.stdout + connected.stderr
    assert webhooks(demo) == 1


def doctor(demo: Demo) -> tuple[int, str]:
    """Exit code and the problems of `maskloop doctor --json`."""
    done = demo.command("doctor", "--json")
    sections = json.loads(done.stdout)["sections"]
    problems = [f["what"] for section in sections for f in section["findings"] if f["level"] == "problem"]
    return done.returncode, "\n".join(problems)


def test_broken_images_are_named_and_all_others_go_on(demo: Demo, admin: LabelStudio) -> None:
    """Truncated, a text, empty, a 404: each task carries its reason; a good one beside them is predicted."""
    folder = demo.home / "demo" / "images"
    good = next(folder.glob("*.png")).read_bytes()
    files = [
        ("truncated.png", good[: len(good) // 2]),
        ("text.png", b"this is no image\n" * 20),
        ("empty.png", b""),
        ("good.png", good + b"another digest"),
    ]
    addresses = [*admin.upload_files(demo.ls_id, files), "/static/nowhere.png"]
    tasks = admin.import_tasks(demo.ls_id, [{"data": {"image": address}} for address in addresses])
    truncated, text, empty, fine, nowhere = tasks
    broken = {truncated, text, empty, nowhere}

    def reasons() -> dict[int, str]:
        with demo.pool.read() as session:
            failed = (Task.state == "failed", Task.deleted_at.is_(None))
            rows = session.execute(select(Task.ls_id, Task.error).where(*failed))
            return {ls_id: error or "" for ls_id, error in rows}

    wait_for("the broken images to be marked", lambda: broken <= reasons().keys(), SYNC_PERIOD + 2 * SLACK)
    found = reasons()
    for task, word in ((truncated, "truncated"), (text, "image"), (empty, "empty"), (nowhere, "404")):
        assert word in found[task], found
    demo.settle()
    assert fine in {row.ls_id for row in demo.ranking()}
    code, problems = doctor(demo)
    assert code == 1
    for task in broken:
        assert f"Task {task}: {found[task]}" in problems
    for task in tasks:
        admin.delete_task(task)
    took = wait_for("the deletions to be noticed", lambda: not reasons_left(demo, tasks), 20 + SYNC_PERIOD + SLACK)
    say("deleted tasks noticed (full check every 20 s)", took)
    assert doctor(demo) == (0, "")


def reasons_left(demo: Demo, ls_ids: Sequence[int]) -> list[int]:
    """Those of the tasks that the pool holds for existing."""
    with demo.pool.read() as session:
        statement = select(Task.ls_id).where(Task.ls_id.in_(list(ls_ids)), Task.deleted_at.is_(None))
        return list(session.scalars(statement))


def test_a_second_prediction_of_a_version_disappears(demo: Demo, admin: LabelStudio) -> None:
    """Whoever doubled it: after a full check every task has one, the older, and the order is the pool's."""
    version, (task,) = demo.version(), free_tasks(demo, admin, 1)

    def ids() -> set[int]:
        return {row.id for row in admin.predictions_index(demo.ls_id, version, tasks=[task])}

    before = ids()
    admin.import_predictions(demo.ls_id, [{"task": task, "model_version": version, "score": 0.0, "result": []}])
    assert len(ids()) == len(before) + 1 == 2
    took = wait_for("the double to go", lambda: ids() == before, 20 + SYNC_PERIOD + SLACK)
    say("double prediction removed (full check every 20 s)", took)


def snapshot_of(demo: Demo, round_id: int) -> set[int]:
    """Ids of the labels that a round learns from."""
    with demo.pool.read() as session:
        return set(session.get_one(Snapshot, session.get_one(Round, round_id).snapshot_id).label_ids)


def label_ids(demo: Demo, tasks: Sequence[int]) -> set[int]:
    """Ids of the current labels of some tasks."""
    return {label.id for task in tasks for label in demo.labels(task) if label.current}


def end_of_round(demo: Demo, number: int, seconds: float = 300.0) -> Round:
    """The `number`th round (from 0) once it has ended."""
    wait_for(f"round {number + 1} to open", lambda: len(demo.rounds()) > number, 60.0)
    wait_for(f"round {number + 1} to end", lambda: demo.rounds()[number].ended_at, seconds)
    return demo.rounds()[number]


def test_ten_answers_retrain_the_model_by_themselves(demo: Demo, admin: LabelStudio) -> None:
    """The snapshot has all ten, the new version serves in its own order, an open task can be submitted all the
    same, a label made meanwhile is learnt from next, and a rollback is served at once."""
    demo.settle()
    with demo.pool.read() as session:
        fresh = new_labels(session, demo.project().id)
    if fresh:
        assert demo.command("train").returncode == 0, "labels that other tests left"
        demo.settle()
    before, count = demo.version(), len(demo.rounds())
    with demo.new_user("patient@maskloop.test") as patient:
        opened = patient.next_task(demo.ls_id)
        assert opened is not None
        (parent,) = [p["id"] for p in opened["predictions"] if p["model_version"] == before]
        ten = [task for task in free_tasks(demo, admin, 11) if task != opened["id"]][:10]
        for task in ten:
            demo.answer(admin, task)
        wait_for("the tenth label to start a training", lambda: len(demo.rounds()) > count, 60.0)
        wait_for("the training to run", lambda: demo.rounds()[count].progress, 120.0)
        (late,) = free_tasks(demo, admin, 1)
        demo.answer(admin, late)
        wait_for("the late label in the pool", lambda: label_ids(demo, [late]), 10.0)
        ended = end_of_round(demo, count)
        learnt = snapshot_of(demo, ended.id)
        assert label_ids(demo, ten) <= learnt
        assert not label_ids(demo, [late]) & learnt
        assert (ended.state, ended.cause) == ("promoted", "labels")
        say("from the end of the training to all tasks served anew", demo.settle())
        after = demo.version()
        assert after != before
        assert admin.project(demo.ls_id).model_version == after
        check_predictions_changed(demo, before, after)
        ranked = [row.ls_id for row in demo.ranking()]
        ordered = [task for task, _ in admin.ordered_tasks(demo.ls_id, "tasks:predictions_score")]
        assert [task for task in ordered if task in set(ranked)] == ranked
        submitted = demo.answer(patient, opened["id"], parent=parent)
        wait_for("the open task's label in the pool", lambda: demo.live(opened["id"]), 10.0)
    (label,) = demo.live(opened["id"])
    assert (label.ls_annotation_id, label.parent_prediction) == (submitted.id, parent)
    assert label.author == "patient@maskloop.test"

    trained = demo.command("train", "--json")
    assert trained.returncode == 0, trained.stderr
    assert label_ids(demo, [late, opened["id"]]) <= snapshot_of(demo, json.loads(trained.stdout)["round"])
    demo.settle()
    check_rollback(demo, admin, served=demo.version(), previous=after)


def check_predictions_changed(demo: Demo, before: str, after: str) -> None:
    """The new version says something else of the same images."""
    with demo.pool.read() as session:
        rows = session.execute(
            select(Prediction.version_id, Prediction.image_digest, Prediction.uncertainty).where(
                Prediction.version_id.in_((before, after))
            )
        )
        by_version: dict[str, dict[str, float | None]] = {before: {}, after: {}}
        for version, digest, uncertainty in rows:
            by_version[version][digest] = uncertainty
    shared = by_version[before].keys() & by_version[after].keys()
    assert len(shared) >= 20
    assert all(by_version[before][digest] != by_version[after][digest] for digest in shared)


def check_rollback(demo: Demo, admin: LabelStudio, *, served: str, previous: str) -> None:
    """`maskloop rollback` is served in seconds and stays until there are new labels."""
    assert demo.command("rollback").returncode == 0
    took = wait_for("the rollback", lambda: admin.project(demo.ls_id).model_version == previous, 10.0)
    say("rollback served", took)
    rounds = len(demo.rounds())
    demo.settle()
    time.sleep(SYNC_PERIOD)
    assert (demo.version(), len(demo.rounds())) == (previous, rounds)
    with demo.pool.read() as session:
        project = session.scalars(select(Project)).one()
    assert (project.served_version, project.previous_version) == (previous, served)
