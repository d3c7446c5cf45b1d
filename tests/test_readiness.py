"""How far a project is; and one without labels: what is said and served, and what its first model starts from."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_fixture import Command
from labelstudio_fixture import LabelStudioServer
from official_fixture import official_names, write_official
from pool_fixture import add_label, add_model, add_project, add_task, png_bytes
from sqlalchemy import func, select
from torch import Tensor
from valkey_fixture import Valkey
from web_fixture import add_prediction, add_version, serving

from maskloop_backend import doctor
from maskloop_backend.cli.checkpoints import register_model
from maskloop_backend.connecting import connect_project
from maskloop_backend.credentials import load_credentials
from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.readiness import Readiness, readiness
from maskloop_backend.results import UNTRAINED
from maskloop_backend.sync.fairness import enqueue_fairly
from maskloop_backend.sync.loop import Sync
from maskloop_learner.model.backbones import BackboneSpec
from maskloop_learner.model.bases import Bases
from maskloop_learner.model.checkpoint import read_meta
from maskloop_learner.model.official import convert, read_released
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import current_version
from maskloop_learner.pool.schema import Champion, Model, Prediction, Project, Push, Round, Task
from maskloop_learner.settings import Settings
from maskloop_queue.queues import gpu_queue
from maskloop_queue.rounds import run
from maskloop_queue.scoring import score
from maskloop_queue.triggers import request_training, start_due_round
from maskloop_queue.warm import Predictors


def look(pool: Pool, settings: Settings, project_id: int) -> Readiness:
    with pool.read() as session:
        return readiness(session, session.get_one(Project, project_id), settings)


def said(found: Readiness) -> str:
    return " | ".join(f"{need.what}. {need.fix}" for need in found.needs)


def findings(pool: Pool, settings: Settings, project_id: int) -> list[tuple[str, str]]:
    """What doctor says of the project's model: level and words."""
    with pool.read() as session:
        project = session.get_one(Project, project_id)
        return [(finding.level, finding.what) for finding in doctor._model(session, project, settings)]


def test_a_new_project_says_what_it_lacks(pool: Pool, settings: Settings) -> None:
    """Images first, then labels, counted down to the first training; nothing of it is broken but having no images."""
    project = add_project(pool)
    found = look(pool, settings, project)
    assert "There are no images" in said(found)
    assert found.next_step == "Import tasks into the project in Label Studio."
    assert ("problem", "There are no images") in findings(pool, settings, project)
    with pool.write() as session:
        session.add(Task(project_id=project, ls_id=99, url="/99.png"))
    assert "1 image to be fetched" in said(look(pool, settings, project))
    tasks = [add_task(pool, project, number) for number in range(1, 6)]
    for task in tasks[:3]:
        add_label(pool, task)
    add_label(pool, tasks[3], cancelled=True)
    found = look(pool, settings, project)
    assert (found.images_ready, found.images_waiting, found.images_failed) == (5, 1, 0)
    assert (found.labels, found.labels_new, found.labels_missing, found.trainings) == (3, 3, 7, 0)
    assert (found.model, found.version, found.served, found.checkpoint) == (None, None, None, None)
    assert "random order, without masks. 7 more labels until the first training (3 of 10 labels)" in said(found)
    assert "`maskloop models pull medclipseg/DATASET --project 7`" in found.next_step
    assert {level for level, _ in findings(pool, settings, project)} == {"ok"}


def test_labels_that_start_no_training_are_a_problem(pool: Pool, settings: Settings) -> None:
    project = add_project(pool)
    add_label(pool, add_task(pool, project, 1))
    settings.trigger_labels = 0
    found = look(pool, settings, project)
    assert found.labels_missing is None
    assert "labels alone start no training (1 label so far)" in said(found)
    assert "maskloop train" in found.next_step
    assert "problem" in {level for level, _ in findings(pool, settings, project)}
    settings.trigger_cron = "0 3 * * *"
    assert "The first training comes at `0 3 * * *` (UTC)" in said(look(pool, settings, project))
    assert {level for level, _ in findings(pool, settings, project)} == {"ok"}


def test_images_that_fail_are_counted(pool: Pool, settings: Settings) -> None:
    project = add_project(pool)
    with pool.write() as session:
        session.add(Task(project_id=project, ls_id=1, url="/1.png", state="failed", error="cut short"))
    found = look(pool, settings, project)
    assert found.images_failed == 1
    assert found.needs[0].blocks
    assert "1 image cannot be used. `maskloop doctor` says which and why." in said(found)
    assert "There are no images" not in said(found)


def test_the_first_training_is_seen_from_the_wish_to_the_masks(pool: Pool, settings: Settings) -> None:
    """Queued, a model whose masks are being drawn, then served; then labels count down to the next one."""
    settings.trigger_labels, settings.train_steps, settings.train_batch, settings.samples = 3, 1, 2, 1
    project = add_project(pool)
    tasks = [add_task(pool, project, number) for number in range(1, 5)]
    for task in tasks[:2]:
        add_label(pool, task)
    assert look(pool, settings, project).labels_missing == 1
    request_training(pool, project, cause="cli")
    round_id = start_due_round(pool, project, settings)
    assert round_id is not None
    found = look(pool, settings, project)
    assert (found.training, found.labels_new, found.labels_missing) == ("queued", 0, 3)
    assert "The first training is queued" in said(found)
    run(pool, round_id, settings, lambda progress: None, lambda: False)
    found = look(pool, settings, project)
    assert (found.model, found.checkpoint, found.unpredicted, found.training) == (1, None, 2, None)
    assert "2 unlabelled images without a mask of maskloop-" in said(found)
    predictors = Predictors(device="cpu")
    with pool.read() as session:
        version = current_version(session, project)
        digests = [session.get_one(Task, task).image_digest or "" for task in tasks[2:]]
    assert version is not None
    for digest in digests:
        score(pool, predictors, version, digest)
    assert "Label Studio serves no version still" in said(look(pool, settings, project))
    with pool.write() as session:
        session.get_one(Project, project).served_version = version
    add_label(pool, tasks[2], minute=5)
    found = look(pool, settings, project)
    assert found.needs == ()
    assert found.served == found.version == version
    assert found.next_step == "Label the tasks that come first: the next training starts after 2 labels."


def test_a_first_training_that_gave_no_model_needs_a_person(pool: Pool, settings: Settings) -> None:
    project = add_project(pool)
    add_label(pool, add_task(pool, project, 1))
    request_training(pool, project, cause="cli")
    start_due_round(pool, project, settings)
    with pool.write() as session:
        session.scalars(select(Round)).one().state = "failed"
    found = look(pool, settings, project)
    assert "The last training gave none. `maskloop doctor` says why" in said(found)
    assert found.needs[0].blocks


def test_the_page_shows_every_project_and_runs_nothing_of_theirs(
    pool: Pool, settings: Settings, shared_valkey: Valkey
) -> None:
    """With the credentials of everything else; a project's name is text, whatever it is."""
    with serving(pool, settings) as web:
        assert "No project is connected yet" in web.get("/").text
        first, second = add_project(pool, ls_id=7), add_project(pool, ls_id=8)
        with pool.write() as session:
            session.get_one(Project, first).title = "<script>alert(1)</script>"
        add_label(pool, add_task(pool, first, 1))
        task = add_task(pool, second, 2)
        add_version(pool, second, add_model(pool, second), "maskloop-v1")
        with pool.write() as session:
            digest = session.get_one(Task, task).image_digest or ""
            session.get_one(Project, second).served_version = "maskloop-v1"
        add_prediction(pool, "maskloop-v1", digest)
        answer = web.get("/")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "script-src 'self';" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.text.count("<script") == answer.text.count('<script src="/static/') == 3
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
        assert "9 more labels" in answer.text
        assert "no masks, tasks in random order" in answer.text
        assert "<code>maskloop-v1</code>" in answer.text
        assert "http://127.0.0.1:1/projects/8/data" in answer.text
        assert httpx.get(web.base_url, timeout=10).status_code == 401


def test_status_says_the_same_in_a_shell(command: Command, pool: Pool) -> None:
    assert "maskloop connect" in command("status")[1]
    assert json.loads(command("status", "--json")[1]) == []
    for ls_id in (7, 8):
        project = add_project(pool, ls_id=ls_id)
    add_label(pool, add_task(pool, project, 1))
    code, out, _ = command("status", "--json")
    found: list[dict[str, Any]] = json.loads(out)
    assert code == 0
    assert [(item["project"], item["labels"], item["labels_missing"]) for item in found] == [(7, 0, 10), (8, 1, 9)]
    assert found[1]["needs"][0]["what"].endswith("9 more labels until the first training (1 of 10 labels)")
    assert found[1]["next_step"] == found[1]["needs"][0]["fix"]
    code, out, _ = command("status", "--project", "8")
    assert "Project 8: test" in out
    assert "Project 7" not in out
    assert "after 9 more labels" in out
    code, _, err = command("status", "--project", "9")
    assert (code, "connected are: 7 (test), 8 (test)" in err) == (1, True)


def test_no_model_is_no_noise(pool: Pool, settings: Settings, shared_valkey: Valkey) -> None:
    """Nothing is enqueued, and Label Studio's question gets an empty reply that it never serves."""
    project = add_project(pool)
    for number in (1, 2):
        add_task(pool, project, number)
    conn = shared_valkey.connect()
    assert enqueue_fairly(pool, conn, project) == 0
    assert gpu_queue(conn).count == 0
    with serving(pool, settings) as web:
        tasks = [{"id": number, "data": {"image": f"/data/upload/1/{number}.png"}} for number in (1, 2)]
        replies = web.post("/predict", json={"project": "7.1", "tasks": tasks}).json()["results"]
        assert replies == [{"result": [], "score": 1.0, "model_version": UNTRAINED}] * 2
        setup = web.post("/setup", json={"project": "7.1", "schema": "<View/>"}).json()
        assert setup == {"model_version": UNTRAINED}


@pytest.fixture
def chosen(pool: Pool, settings: Settings, tiny: BackboneSpec, tiny_tensors: dict[str, Tensor], tmp_path: Path) -> int:
    """A project of six images for which a released checkpoint was chosen; returns its id in the pool."""
    project = add_project(pool)
    for number in range(1, 7):
        add_task(pool, project, number)
    path = write_official(tmp_path / "MedCLIPSeg_clip_ViT-B-16_latest.pth", official_names(tiny, tiny_tensors))
    made = convert(
        read_released(path),
        bases=Bases(settings.bases_folder),
        labels=["Tumor"],
        prompts={"Tumor": "tumor"},
        source="medclipseg/busi",
    )
    settings.samples, settings.calibration_images = 2, 0
    told = register_model(pool, project, settings, weights=made.weights, manifest=made.manifest, promote=None)
    assert told["version"].startswith("maskloop-")
    return project


def test_a_chosen_checkpoint_draws_masks_before_the_first_label(
    pool: Pool, settings: Settings, shared_valkey: Valkey, chosen: int
) -> None:
    """Under a version of its own: from the queue's worker to the reply that Label Studio gets."""
    found = look(pool, settings, chosen)
    assert (found.model, found.checkpoint, found.labels) == (1, "medclipseg/busi", 0)
    assert found.unpredicted == 6
    predictors = Predictors.of(settings)
    with pool.read() as session:
        digests = list(session.scalars(select(Task.image_digest).order_by(Task.id)))
    assert found.version is not None
    for digest in digests:
        score(pool, predictors, found.version, digest or "")
    with serving(pool, settings) as web:
        task = {"id": 1, "data": {"image": "/data/upload/1/1.png"}}
        [reply] = web.post("/predict", json={"project": "7.1", "tasks": [task]}).json()["results"]
    assert reply["model_version"] == found.version
    assert 0 <= reply["score"] < 1
    with pool.read() as session:
        assert session.scalar(select(func.count(Prediction.id)).where(Prediction.error.is_(None))) == 6


def test_the_first_training_starts_from_base_weights_and_meets_the_checkpoint(
    pool: Pool, settings: Settings, chosen: int
) -> None:
    """It learns the installation's backbone from its start, and replaces the checkpoint only if it is not worse."""
    settings.train_steps, settings.train_batch = 1, 2
    settings.gate_margin, settings.gate_allow_few = 0.99, True
    with pool.read() as session:
        tasks = list(session.scalars(select(Task.id).order_by(Task.id)))
    for task in tasks[:4]:
        add_label(pool, task)
    request_training(pool, chosen, cause="cli")
    round_id = start_due_round(pool, chosen, settings)
    assert round_id is not None
    run(pool, round_id, settings, lambda progress: None, lambda: False)
    with pool.read() as session:
        row = session.get_one(Round, round_id)
        made, champion = session.get_one(Model, row.model_id), session.get_one(Champion, chosen)
    assert (row.state, champion.model_id, champion.previous_model_id) == ("promoted", made.id, 1)
    assert made.parent_id == 1
    assert made.backbone == "nano"
    assert read_meta(pool.store.get("weights", made.weights_digest))["backbone"] == "nano"
    figures = made.metrics["validation"]["Tumor"]
    assert {"champion", "challenger"} <= set(figures), figures
    found = look(pool, settings, chosen)
    assert (found.model, found.checkpoint) == (made.id, None)


CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="tag" toName="image"><Label value="Tumor"/>'
    "</BrushLabels></View>"
)


@pytest.mark.slow
def test_label_studio_serves_a_project_without_a_model_in_random_order(
    pool: Pool,
    settings: Settings,
    valkey: Valkey,
    label_studio: LabelStudioServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Connected and looked at by sync: no prediction is there, and annotators do not begin at the first task."""
    monkeypatch.setattr("web_fixture.CREDENTIALS", load_credentials(settings.home))
    with serving(pool, settings) as web, LabelStudio(label_studio.url, label_studio.token) as client:
        settings.public_url = str(web.base_url).rstrip("/")
        number = client.create_project("no labels yet", CONFIG).id
        files = [(f"f{n}", (f"{n}.png", png_bytes(n), "image/png")) for n in range(20)]
        label_studio.api("POST", f"/api/projects/{number}/import", files=files).raise_for_status()
        connection = connect_project(
            pool, settings, url=label_studio.url, token=label_studio.token, ls_id=number, prompts={}
        )
        assert connection.healthy, connection.findings
        sync = Sync(pool=pool, settings=settings)
        for _ in range(3):
            with pool.read() as session:
                project = session.scalars(select(Project)).one()
            sync.step(project, woken=True)
        found = look(pool, settings, project.id)
        assert (found.images_ready, found.images_failed, found.model) == (20, 0, None)
        assert "10 more labels until the first training" in said(found)
        drawn = [list(first_tasks(label_studio, number, 4)) for _ in range(3)]
        print(f"20 tasks in the order of three annotators: {drawn}")
        assert any(order != sorted(order) for order in drawn)
        assert len({order[0] for order in drawn}) > 1
        assert set(client.model_versions(number)) <= {UNTRAINED}
        with pool.read() as session:
            assert session.scalar(select(func.count()).select_from(Push)) == 0
        client.delete_project(number)


def first_tasks(server: LabelStudioServer, project: int, count: int) -> Iterator[int]:
    """The tasks that a fresh annotator is served, one after another; each is skipped, so that it stays unlabelled."""
    with LabelStudio(server.url, server.new_user(f"fresh-{time.time_ns()}@maskloop.test")) as annotator:
        for _ in range(count):
            task = annotator.next_task(project)
            assert task is not None
            assert not any(prediction["result"] for prediction in task["predictions"])
            annotator.create_annotation(int(task["id"]), [], cancelled=True)
            yield int(task["id"])
