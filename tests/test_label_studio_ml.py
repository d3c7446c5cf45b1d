"""Maskloop as a model of label-studio-ml, and a user's model in a real Label Studio."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from labelstudio_fixture import LabelStudioServer
from ml_server import FLOORS, OURS, REAL, MLClient, MLServer, end, free_port, need_real_python, run
from pool_fixture import add_model, add_project, add_task, png_bytes
from sqlalchemy import select
from test_ml_base import notes
from valkey_fixture import wait_until
from web_fixture import CREDENTIALS, add_prediction, add_version, serving

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Task, TrainRequest
from maskloop_learner.settings import Settings

CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="tag" toName="image"><Label value="Tumor"/>'
    "</BrushLabels></View>"
)
NOTES = CONFIG.replace("<BrushLabels", '<TextArea name="note" toName="image"/><BrushLabels')


@pytest.fixture
def running(pool: Pool, settings: Settings) -> Iterator[tuple[str, Path]]:
    """A web process over a pool with one predicted task of project 7; its address and home folder."""
    project = add_project(pool)
    add_task(pool, project, 1)
    with pool.read() as session:
        digest = session.scalars(select(Task.image_digest)).one()
    add_version(pool, project, add_model(pool, project), "v-1")
    add_prediction(pool, "v-1", str(digest))
    text = json.dumps({"username": CREDENTIALS.username, "password": CREDENTIALS.password})
    (settings.home / "credentials.json").write_text(text)
    with serving(pool, settings) as client:
        yield str(client.base_url).rstrip("/"), settings.home


@pytest.fixture(params=[OURS, REAL])
def maskloop(request: pytest.FixtureRequest, running: tuple[str, Path], tmp_path: Path) -> Iterator[MLClient]:
    """The class Maskloop in front of it, under `maskloop serve` and under the real `label-studio-ml start`."""
    url, home = running
    place = {"MASKLOOP_HOME": str(home), "MASKLOOP_PUBLIC_URL": url}
    if request.param == OURS:
        server = MLServer(tmp_path / "ours", "maskloop_backend.label_studio_ml:Maskloop", environment=place)
        yield server
        server.stop()
        return
    folder = Path(need_real_python()).parent
    tool, work = str(folder / "label-studio-ml"), tmp_path / "real"
    work.mkdir()
    (work / "model.py").write_text("from maskloop_backend.label_studio_ml import Maskloop\n")
    place |= {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(FLOORS)}
    create = run([tool, "create", "served", "--script", "model.py:Maskloop"], home=work, implementation=REAL, **place)
    assert create.wait(120) == 0, (work / "server.log").read_text()
    client = MLClient("Maskloop", free_port(), work / "server.log")
    start = [tool, "start", "served", "--host", "127.0.0.1", "--port", str(client.port)]
    process = run(start, home=work, implementation=REAL, **place)
    try:
        client.wait(process)
        yield client
    finally:
        end(process)


def test_maskloop_answers_through_label_studio_ml(maskloop: MLClient, pool: Pool) -> None:
    setup = {"project": "7.1795397810", "schema": CONFIG, "extra_params": None}
    assert maskloop.post("/setup", setup) == {"model_version": "v-1"}
    tasks = [{"id": number, "data": {"image": f"/data/upload/1/{number}.png"}} for number in (1, 999)]
    params = {"login": None, "password": None, "context": None}
    body = {"tasks": tasks, "project": "7.1795397810", "label_config": CONFIG, "params": params}
    known, unknown = maskloop.post("/predict", body)["results"]
    assert known["model_version"] == "v-1"
    assert known["score"] == pytest.approx(0.75)
    assert known["result"][0]["value"]["brushlabels"] == ["Tumor"]
    assert unknown["result"] == []
    event = {"action": "START_TRAINING", "project": {"id": 7, "label_config": CONFIG}}
    assert maskloop.post("/webhook", event)["status"] == "ok"

    def requested() -> bool:
        with pool.read() as session:
            return session.scalars(select(TrainRequest.cause)).all() == ["button"]

    wait_until("a training was requested", requested)


def test_without_a_running_maskloop_the_way_out_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = """
from maskloop_backend.label_studio_ml import Maskloop, MaskloopError
try:
    Maskloop("7", "<View/>")
except MaskloopError as error:
    print(error)
"""

    def said(**more: str) -> str:
        environment = {"MASKLOOP_HOME": str(home), "MASKLOOP_PORT": str(free_port()), **more}
        environment["PYTHONPATH"] = os.pathsep.join(FLOORS)
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert f"there are no credentials in {home}; set MASKLOOP_HOME" in said()
    assert not (home / "credentials.json").exists(), "asking must not make credentials up"
    (home / "credentials.json").write_text('{"username": "a", "password": "b"}')
    assert "is `maskloop up` running, and MASKLOOP_PUBLIC_URL right?" in said()


@pytest.mark.slow
@pytest.mark.parametrize("auth", [None, ("lead", "secret")], ids=["open", "basic-auth"])
def test_a_users_model_in_a_real_label_studio(
    label_studio: LabelStudioServer, tmp_path: Path, auth: tuple[str, str] | None
) -> None:
    """Connect, open a task and find the prediction, submit, and see that fit was reached."""
    server = MLServer(tmp_path / "witness", "Witness", auth=auth)
    url = f"http://127.0.0.1:{server.port}"

    def api(method: str, path: str, **arguments: Any) -> Any:
        answer = label_studio.api(method, path, **arguments)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    try:
        project = api("POST", "/api/projects/", json={"title": "a user's model", "label_config": NOTES})["id"]
        files = {"file": ("one.png", png_bytes(), "image/png")}
        api("POST", f"/api/projects/{project}/import", files=files)
        task = api("GET", "/api/tasks/", params={"project": project})["tasks"][0]["id"]
        backend = {"project": project, "url": url, "title": "Witness"}
        if auth:
            backend |= {"auth_method": "BASIC_AUTH", "basic_auth_user": auth[0], "basic_auth_pass": auth[1]}
        made = api("POST", "/api/ml", json=backend)
        assert (made["state"], made["model_version"]) == ("CO", "0.0.1")
        if auth:
            give_credentials(api, project, auth)
        opened = api("GET", f"/api/tasks/{task}/")
        assert [one["model_version"] for one in opened["predictions"]] == ["own"]
        seen = json.loads(opened["predictions"][0]["result"][0]["value"]["text"][0])
        assert (seen["task"], seen["project"], seen["events"]) == (task, str(project), [])
        result = opened["predictions"][0]["result"]
        annotation = api("POST", f"/api/tasks/{task}/annotations/", json={"result": result, "lead_time": 1.0})["id"]
        body = {"tasks": [{"id": task, "data": {}}], "project": str(project), "label_config": NOTES, "params": {}}

        def fitted() -> list[Any]:
            events: list[Any] = notes(server.post("/predict", body))[0]["events"]
            return events

        wait_until("fit was reached", fitted, timeout=30)
        assert fitted()[0][:2] == ["ANNOTATION_CREATED", annotation]
        api("POST", f"/api/ml/{made['id']}/train", json={})
        wait_until("fit by the button", lambda: fitted()[-1][0] == "START_TRAINING", timeout=30)
        report = server.report()
        assert (report["fits"]["failed"], report["last_error"]) == (0, None)
    finally:
        server.stop()


def give_credentials(api: Callable[..., Any], project: int, auth: tuple[str, str]) -> None:
    """What docs/label-studio-ml.md tells to do: Label Studio gives a backend's credentials to its own calls only."""
    hook = api("GET", "/api/webhooks/", params={"project": project})[0]
    header = httpx.BasicAuth(*auth)._auth_header
    api("PATCH", f"/api/webhooks/{hook['id']}/", json={"url": hook["url"], "headers": {"Authorization": header}})
