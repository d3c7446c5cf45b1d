"""A prompt that an annotator types: answered through the worker at once, kept, and used from then on."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pool_fixture import add_model, add_task
from sqlalchemy import select, update
from valkey_fixture import Valkey
from web_fixture import Hand, add_prediction, add_version, queued, serving

from maskloop_backend.labelstudio.controls import Control, Interface, PromptTag
from maskloop_backend.labelstudio.records import Annotation
from maskloop_backend.sync.annotations import find_typed, take_annotation
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.prompting import set_prompts
from maskloop_learner.pool.schema import Event, Image, Label, Project, PromptSet, Snapshot, Task
from maskloop_learner.pool.snapshot import freeze_snapshot, load_manifest
from maskloop_learner.settings import Settings

PAYLOADS = Path(__file__).resolve().parents[2] / "shared" / "payloads"
NOW = datetime(2026, 1, 5, tzinfo=UTC)


def interface(*labels: str) -> Interface:
    return Interface(
        (Control("brush", "tag", "image", "image", labels),),
        (PromptTag("prompt", "image", "image"),),
    )


@pytest.fixture
def project(pool: Pool) -> int:
    """Project 1 with one label, a field for prompts and version v1."""
    control = interface("Tumor").as_json()
    with pool.write() as session:
        row = Project(ls_url="http://127.0.0.1:1", ls_id=1, title="t", control=control, prompts={"Tumor": "tumor"})
        session.add(row)
        session.flush()
        project = row.id
    add_version(pool, project, add_model(pool, project), "v1")
    return project


@pytest.fixture
def web(pool: Pool, settings: Settings, valkey: Valkey) -> Iterator[httpx.Client]:
    settings.predict_deadline = 3.0
    with serving(pool, settings) as client:
        yield client


def text_region(*lines: str, name: str = "prompt") -> dict[str, Any]:
    """What Label Studio sends of a TextArea."""
    return {"type": "textarea", "from_name": name, "to_name": "image", "value": {"text": list(lines)}}


def type_in(web: httpx.Client, ls_id: int, *lines: str) -> dict[str, Any]:
    """Ask as Label Studio does while somebody types."""
    context = {"annotation_id": 3, "result": [text_region(*lines)]}
    body = {"tasks": [{"id": ls_id, "data": {}}], "project": "1.1", "params": {"context": context}}
    [result] = web.post("/predict", content=json.dumps(body)).raise_for_status().json()["results"]
    assert isinstance(result, dict)
    return result


def task_of(pool: Pool, ls_id: int) -> Task:
    with pool.read() as session:
        return session.scalars(select(Task).where(Task.ls_id == ls_id)).one()


def test_a_typed_prompt_is_asked_at_the_front_and_answered(
    pool: Pool, project: int, web: httpx.Client, valkey: Valkey
) -> None:
    """The suggestion is not the mask that was there; what was typed is kept, and the same words ask nothing anew."""
    add_task(pool, project, 5)
    plain = task_of(pool, 5)
    add_prediction(pool, "v1", str(plain.image_digest), uncertainty=0.25)
    with Hand(pool, valkey.connect()) as hand:
        found = type_in(web, 5, "a bright cyst")
        [(version, image, deadline)] = hand.done
        assert type_in(web, 5, "a  bright cyst") == found
        assert len(hand.done) == 1
    assert (version, image) == ("v1", plain.image_digest)
    assert deadline is not None
    assert [region["value"]["brushlabels"] for region in found["result"]] == [["Tumor"]]
    asked = task_of(pool, 5)
    assert asked.typed_prompts == {"Tumor": "a bright cyst"}
    assert (asked.prompts["Tumor"]["text"], asked.prompts["Tumor"]["source"]) == ("a bright cyst", "annotator")
    with pool.read() as session:
        assert session.get_one(PromptSet, asked.prompt_digest).prompts == asked.prompts
        events = session.scalars(select(Event).where(Event.kind == "prompt.typed")).all()
    assert events[0].data == {"part": "image", "prompts": {"Tumor": "a bright cyst"}}
    plain_body = {"tasks": [{"id": 5, "data": {}}], "project": "1.1", "params": {"context": None}}
    [later] = web.post("/predict", content=json.dumps(plain_body)).json()["results"]
    assert later == found, "from now on the image is asked by these words"


def test_other_words_draw_the_same_region_anew(pool: Pool, project: int, web: httpx.Client, valkey: Valkey) -> None:
    """Label Studio puts an accepted suggestion in place of the region with its id; other ids would unite both masks."""
    add_task(pool, project, 5)
    with Hand(pool, valkey.connect()):
        results = [type_in(web, 5, text)["result"] for text in ("tumor", "a cyst", "a scar")]
        add_version(pool, project, add_model(pool, project, b"others"), "v2")
        results.append(type_in(web, 5, "a scar")["result"])
    assert len({region["id"] for (region,) in results}) == 1


def test_the_last_text_that_was_added_counts(pool: Pool, project: int, web: httpx.Client, valkey: Valkey) -> None:
    """Label Studio sends all texts of the field again with each new one."""
    add_task(pool, project, 5)
    with Hand(pool, valkey.connect()):
        type_in(web, 5, "a bright cyst")
        type_in(web, 5, "a bright cyst", "a dark scar")
    assert task_of(pool, 5).typed_prompts == {"Tumor": "a dark scar"}
    tags = interface("Tumor", "Cyst")
    found = find_typed([text_region("bright spots", "Cyst: round", "Cyst: oval")], tags)
    assert found == {"Tumor": "tumor, bright spots", "Cyst": "oval"}
    assert find_typed([text_region("Cyst: round\nTumor: dark")], tags) == {"Cyst": "round", "Tumor": "dark"}


def test_nothing_typed_is_answered_with_what_is_there(
    pool: Pool, project: int, web: httpx.Client, valkey: Valkey
) -> None:
    add_task(pool, project, 5)
    add_prediction(pool, "v1", str(task_of(pool, 5).image_digest), uncertainty=0.25)
    for lines in ((), ("  ",)):
        found = type_in(web, 5, *lines)
        assert (found["score"], len(found["result"])) == (0.75, 1)
    assert task_of(pool, 5).typed_prompts == {}
    assert queued(valkey.connect()) == []


def test_the_captured_request_of_label_studio_is_answered(
    pool: Pool, project: int, web: httpx.Client, valkey: Valkey
) -> None:
    path = PAYLOADS / "predict_interactive_text_prompt.json"
    if not path.exists():
        pytest.skip(f"no captured request {path}")
    body = json.loads(path.read_text())["body"]
    number = int(body["project"].split(".")[0])
    name = body["params"]["context"]["result"][0]["from_name"]
    tags = Interface(interface("Tumor").controls, (PromptTag(name, "image", "image"),))
    with pool.write() as session:
        session.execute(update(Project).values(ls_id=number, control=tags.as_json()))
    add_task(pool, project, body["tasks"][0]["id"])
    with Hand(pool, valkey.connect()):
        [result] = web.post("/predict", json=body).raise_for_status().json()["results"]
    typed = body["params"]["context"]["result"][0]["value"]["text"]
    assert task_of(pool, body["tasks"][0]["id"]).typed_prompts == {"Tumor": " ".join(typed)}
    assert len(result["result"]) == 1


def test_a_request_of_nonsense_is_no_error(pool: Pool, project: int, web: httpx.Client) -> None:
    """Whatever stands in the context, the reply has one result."""
    add_task(pool, project, 5)
    add_prediction(pool, "v1", str(task_of(pool, 5).image_digest), uncertainty=0.25)
    values: list[Any] = [None, {"text": 5}, {"text": [None]}, []]
    contexts: list[Any] = [
        {},
        7,
        [],
        {"result": None},
        {"result": [3, None, {}]},
        {"result": [{"from_name": "prompt"}]},
        {"result": [{"from_name": ["prompt"]}]},
    ]
    contexts += [{"result": [text_region() | {"value": value}]} for value in values]
    for context in contexts:
        body = {"tasks": [{"id": 5, "data": {}}], "project": "1.1", "params": {"context": context}}
        [result] = web.post("/predict", json=body).raise_for_status().json()["results"]
        assert result["score"] == 0.75


def test_the_prompt_of_a_submitted_annotation_is_kept_with_the_label(pool: Pool, project: int) -> None:
    """The label says what was asked, and the next training and the next version ask the same of this image."""
    for ls_id in (5, 6):
        add_task(pool, project, ls_id)
    body = Annotation(
        id=31,
        task=5,
        result=[text_region("cyst in the upper left corner")],
        author=None,
        cancelled=False,
        ground_truth=False,
        lead_time=1.0,
        parent_prediction=None,
        created_at=NOW,
        updated_at=NOW,
    )
    for ls_id, annotation in ((5, body), (6, Annotation(**{**vars(body), "id": 32, "task": 6, "result": []}))):
        with pool.read() as session:
            task = session.scalars(select(Task).where(Task.ls_id == ls_id)).one()
            row, image = session.get_one(Project, project), session.get_one(Image, task.image_digest)
        assert take_annotation(pool, row, task, image, annotation, authors={})
    with pool.read() as session:
        labels = {label.ls_annotation_id: label for label in session.scalars(select(Label))}
    assert labels[31].prompts["Tumor"]["text"] == "cyst in the upper left corner"
    assert labels[31].prompts["Tumor"]["located"] is True
    assert (labels[32].prompts["Tumor"]["text"], labels[32].prompts["Tumor"]["source"]) == ("tumor", "default")
    snapshot = freeze_snapshot(pool, project, share=0.5)
    with pool.read() as session:
        manifest = load_manifest(pool, session.get_one(Snapshot, snapshot))
    asked = {item["ls_task"]: item.get("prompts") for item in manifest["items"]}
    assert asked[6] is None
    assert asked[5] is not None
    assert (asked[5]["Tumor"]["text"], asked[5]["Tumor"]["plain"]) == ("cyst in the upper left corner", "tumor")


def test_an_annotation_that_is_read_again_does_not_bring_old_words_back(pool: Pool, project: int) -> None:
    """One that cannot be learnt from is read at every full look, also after somebody has typed other words."""
    number = add_task(pool, project, 5)
    broken = {"type": "brushlabels", "from_name": "tag", "to_name": "image", "original_width": 1}
    body = Annotation(
        id=31,
        task=5,
        result=[broken, text_region("old words")],
        author=None,
        cancelled=False,
        ground_truth=False,
        lead_time=1.0,
        parent_prediction=None,
        created_at=NOW,
        updated_at=NOW,
    )
    with pool.read() as session:
        row, task = session.get_one(Project, project), session.get_one(Task, number)
        image = session.get_one(Image, task.image_digest)
    assert take_annotation(pool, row, task, image, body, authors={})
    assert task_of(pool, 5).typed_prompts == {"Tumor": "old words"}
    with pool.write() as session:
        session.get_one(Task, number).typed_prompts = {"Tumor": "new words"}
    assert not take_annotation(pool, row, task, image, body, authors={})
    assert task_of(pool, 5).typed_prompts == {"Tumor": "new words"}


def test_words_for_several_labels_are_shared_out() -> None:
    """A line that begins with a label is that label's."""
    tags = interface("Tumor", "Cyst")
    found = find_typed([text_region("Tumor: dark mass", "cyst: round and black")], tags)
    assert found == {"Tumor": "dark mass", "Cyst": "round and black"}
    assert find_typed([text_region("a black cyst")], tags) == {"Cyst": "a black cyst"}
    assert find_typed([text_region("x", name="comment")], tags) == {}


def test_typing_does_not_change_what_other_images_are_asked(
    pool: Pool, project: int, web: httpx.Client, valkey: Valkey
) -> None:
    for ls_id in (5, 6):
        add_task(pool, project, ls_id)
    with Hand(pool, valkey.connect()):
        type_in(web, 5, "a cyst")
    assert (task_of(pool, 6).prompt_digest, task_of(pool, 6).prompts) == ("", {})
    with pool.write() as session:
        row = session.get_one(Project, project)
        task = session.get_one(Task, task_of(pool, 5).id)
        assert not set_prompts(session, row, task), "the typed words stay"


def test_what_no_database_takes_is_left_out_of_words() -> None:
    found = find_typed([text_region("a \ud800 cyst\0 here")], interface("Tumor"))
    assert found == {"Tumor": "a ? cyst here"}
