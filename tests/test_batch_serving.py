"""A batch in a real Label Studio: its order in the label stream and in the tab, with a model and without one."""

from collections.abc import Iterator

import pytest
from labelstudio_fixture import LabelStudioServer
from pool_fixture import TUMOR, add_model, add_task
from web_fixture import add_prediction, add_version

from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.results import BATCHED
from maskloop_backend.sync.ordering import keep_order
from maskloop_backend.sync.push import Pusher
from maskloop_backend.sync.tabs import follow_batches
from maskloop_backend.sync.unmodelled import Unmodelled
from maskloop_learner.pool.batches import create_batch, end_batch, find_open
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project, Task
from maskloop_learner.select.candidates import Pick
from maskloop_learner.select.order import batch_score, plain_score

pytestmark = pytest.mark.slow

CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="tag" toName="image">'
    '<Label value="Tumor"/></BrushLabels></View>'
)
VERSION = "maskloop-aaaaaaaaaaaa"
UNCERTAINTIES = (0.1, 0.9, 1.0, 0.4, 0.6, 0.3, 0.0)


class Room:
    """A project of seven tasks in a real Label Studio, with what `sync` does of it for a batch."""

    def __init__(self, pool: Pool, client: LabelStudio, server: LabelStudioServer) -> None:
        self.pool, self.client = pool, client
        self.ls_id = client.create_project("batches", CONFIG, sampling="Uncertainty sampling").id
        names = [{"image": f"https://images.test/{number}.png"} for number in range(len(UNCERTAINTIES))]
        self.tasks = client.import_tasks(self.ls_id, names)
        with pool.write() as session:
            row = Project(ls_url=server.url, ls_id=self.ls_id, title="batches", control=Interface((TUMOR,)).as_json())
            session.add(row)
            session.flush()
            self.id = row.id
        self.numbers = {ls_id: add_task(pool, self.id, ls_id) for ls_id in self.tasks}
        self.pusher = Pusher(pool=pool, client=client, beat=lambda: None)

    def row(self) -> Project:
        """The project as it is now."""
        with self.pool.read() as session:
            return session.get_one(Project, self.id)

    def learn(self) -> None:
        """A model that is unsure of the tasks as UNCERTAINTIES say; its masks are pushed and served."""
        add_version(self.pool, self.id, add_model(self.pool, self.id), VERSION)
        for ls_id, uncertainty in zip(self.tasks, UNCERTAINTIES, strict=True):
            with self.pool.read() as session:
                digest = str(session.get_one(Task, self.numbers[ls_id]).image_digest)
            add_prediction(self.pool, VERSION, digest, uncertainty=uncertainty)
        assert self.pusher.push(self.id, VERSION)
        assert self.pusher.switch(self.id, VERSION)

    def open(self, *places: int) -> list[int]:
        """A batch of the tasks at these places; returns their ids in Label Studio."""
        chosen = [self.tasks[place] for place in places]
        picks = [Pick(id=self.numbers[ls_id], slot="random", score=None, reason="by hand") for ls_id in chosen]
        with self.pool.write() as session:
            how = {"strategy": "random", "seed": 0, "options": {}, "version_id": None, "by": "test"}
            create_batch(session, self.id, picks, **how)  # type: ignore[arg-type]
        return chosen

    def undo(self) -> None:
        """Undo the open batch."""
        with self.pool.write() as session:
            batch = find_open(session, self.id)
            assert batch is not None
            end_batch(session, batch, "undone", by="test")

    def serve(self, version: str | None) -> None:
        """What `sync` does at a look."""
        unmodelled = Unmodelled(pool=self.pool, client=self.client, pusher=self.pusher, beat=lambda: None)
        for _ in range(2):
            assert keep_order(self.pool, self.client, self.row(), version, beat=lambda: None)
            if version is None:
                assert not unmodelled.serve(self.row(), look=True)
            follow_batches(self.pool, self.client, self.row())

    def scores(self, version: str) -> dict[int, float | None]:
        """Task -> the score of its prediction in Label Studio."""
        return {row.task: row.score for row in self.client.predictions_index(self.ls_id, version)}

    def tabs(self) -> dict[str, list[int]]:
        """Title of every tab -> its tasks, in its order."""
        found = {}
        for view, data in self.client.views(self.ls_id).items():
            params = {"project": self.ls_id, "view": view, "page": 1, "page_size": 100}
            found[data["title"]] = [row["id"] for row in self.client.json("GET", "api/tasks/", params=params)["tasks"]]
        return found


@pytest.fixture
def room(pool: Pool, label_studio: LabelStudioServer) -> Iterator[Room]:
    """The project, and the admin's client."""
    with LabelStudio(label_studio.url, label_studio.pat) as client:
        made = Room(pool, client, label_studio)
        yield made
        client.delete_project(made.ls_id)


@pytest.fixture
def annotators(label_studio: LabelStudioServer) -> Iterator[tuple[LabelStudio, LabelStudio]]:
    """Two people who label."""
    emails = [f"{name}-{label_studio.url.rsplit(':', 1)[1]}-{id(object())}@maskloop.test" for name in ("one", "two")]
    first, second = (LabelStudio(label_studio.url, label_studio.new_user(email)) for email in emails)
    with first, second:
        yield first, second


def test_two_annotators_use_up_a_batch_in_its_order_and_go_on_by_uncertainty(
    room: Room, annotators: tuple[LabelStudio, LabelStudio]
) -> None:
    """No task comes to both; the tab has the same order; after the batch comes the most uncertain of the rest."""
    room.learn()
    plain = room.scores(VERSION)
    batch = room.open(0, 4, 6, 3)
    room.serve(VERSION)
    assert [room.scores(VERSION)[ls_id] for ls_id in batch] == [1e-15, 2e-15, 3e-15, 4e-15]
    assert room.tabs() == {"Batch 1: random, 4 images": batch}
    order = [task for task, _ in room.client.ordered_tasks(room.ls_id, "tasks:predictions_score")]
    assert order == [*batch, room.tasks[2], room.tasks[1], room.tasks[5]]
    served: list[int] = []
    for turn in range(0, len(order) - 1, 2):
        # Both open a task before either submits one.
        pair = [annotator.next_task(room.ls_id) for annotator in annotators]
        for annotator, task in zip(annotators, pair, strict=True):
            assert task is not None, turn
            served.append(task["id"])
            annotator.create_annotation(task["id"], [])
    assert served == order[:6]
    room.undo()
    room.serve(VERSION)
    assert room.scores(VERSION) == plain
    assert room.tabs() == {}


def test_the_order_before_comes_back_when_a_batch_is_undone(
    room: Room, annotators: tuple[LabelStudio, LabelStudio]
) -> None:
    """The first batch leaves no trace in the order of the second, nor of what follows."""
    room.learn()
    first = room.open(6, 5)
    room.serve(VERSION)
    room.undo()
    second = room.open(3)
    room.serve(VERSION)
    assert [room.scores(VERSION)[ls_id] for ls_id in first] == [1.0, 0.7]
    task = annotators[0].next_task(room.ls_id)
    assert task is not None
    assert [task["id"]] == second
    room.undo()
    room.serve(VERSION)
    task = annotators[1].next_task(room.ls_id)
    assert task is not None
    assert task["id"] == room.tasks[2]


def test_a_batch_is_served_in_its_order_before_there_is_a_model(
    room: Room, annotators: tuple[LabelStudio, LabelStudio]
) -> None:
    """Empty predictions carry the order; when it is over, the project names no version and they are gone."""
    batch = room.open(5, 1, 3)
    room.serve(None)
    assert room.client.project(room.ls_id).model_version == BATCHED
    assert room.tabs() == {"Batch 1: random, 3 images": batch}
    served = []
    for annotator in (*annotators, annotators[0]):
        task = annotator.next_task(room.ls_id)
        assert task is not None
        assert [row["result"] for row in task["predictions"]] == [[]]
        parent = task["predictions"][0]["id"]
        annotator.create_annotation(task["id"], [], parent_prediction=parent)
        served.append(task["id"])
    assert served == batch
    task = annotators[1].next_task(room.ls_id)
    assert task is not None
    assert task["id"] not in batch
    room.undo()
    room.serve(None)
    assert room.client.project(room.ls_id).model_version == ""
    assert set(room.scores(BATCHED)) <= set(batch)
    second = room.open(0)
    room.serve(None)
    assert room.scores(BATCHED)[second[0]] == 1e-15
    room.learn()
    assert room.scores(VERSION)[second[0]] == 1e-15
    room.serve(VERSION)
    assert room.tabs() == {"Batch 2: random, 1 image": second}


def test_serving_scores_of_a_large_batch_stay_what_they_are(room: Room) -> None:
    """Through the bulk import and through a change of one prediction, to the last bit, and in order."""
    scores = [batch_score(position) for position in (1, 2, 3, 99_999, 100_000)] + [plain_score(1.0), plain_score(0.0)]
    rows = [
        {"task": ls_id, "model_version": VERSION, "score": score, "result": []}
        for ls_id, score in zip(room.tasks, scores, strict=True)
    ]
    assert room.client.import_predictions(room.ls_id, rows).created == len(rows)
    room.client.set_model_version(room.ls_id, VERSION)
    found = {row.task: row for row in room.client.predictions_index(room.ls_id, VERSION)}
    assert [found[ls_id].score for ls_id in room.tasks] == scores
    for ls_id, score in zip(room.tasks, reversed(scores), strict=True):
        assert room.client.set_score(found[ls_id].id, score)
    assert [room.scores(VERSION)[ls_id] for ls_id in room.tasks] == scores[::-1]
    ordered = room.client.ordered_tasks(room.ls_id, "tasks:predictions_score")
    assert ordered == list(zip(reversed(room.tasks), scores, strict=True))
    assert not room.client.set_score(2**30, 0.5), "a prediction that is gone is no error"
