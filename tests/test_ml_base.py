"""Models written for label-studio-ml 2.x, over real HTTP: on our server, and on the real package's if installed."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from ml_server import OURS, REAL, MLClient, MLServer, end, need_real_python, serve_many
from valkey_fixture import wait_until

PAYLOADS = Path(__file__).resolve().parents[2] / "shared" / "payloads"
CONFIG = (
    '<View><Image name="image" value="$image"/><TextArea name="note" toName="image"/>'
    '<BrushLabels name="tag" toName="image"><Label value="Tumor"/><Label value="Organ"/></BrushLabels>'
    '<Choices name="choice" toName="image"><Choice value="Cat" predicted_values="tabby, tiger"/><Choice value="Dog"/>'
    '<Choice value="Fish"/></Choices></View>'
)
SHARED = ["Brush", "Witness", "Interactive", "Several", "Versions", "Wrong", "Slow", "Kept", "LabelStudioMLBase"]
Serve = Callable[..., MLClient]
Own = Callable[..., MLServer]


def payload(name: str) -> Any:
    """The body of a request that Label Studio 1.23 was seen to send."""
    path = PAYLOADS / f"{name}.json"
    if not path.exists():
        pytest.skip(f"no captured request {path}")
    return json.loads(path.read_text())["body"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Gives clients of servers that are kept for the module: `servers("Brush", implementation)`."""
    process, ours = serve_many(tmp_path_factory.mktemp("ours"), SHARED)
    real: dict[str, MLServer] = {}

    def serve(name: str, implementation: str = OURS) -> MLClient:
        if implementation == OURS:
            return ours[name]
        if name not in real:
            real[name] = MLServer(tmp_path_factory.mktemp(name), name, implementation)
        return real[name]

    yield serve
    for one in [process, *(server.process for server in real.values())]:
        end(one)


@pytest.fixture(params=[OURS, REAL])
def implementation(request: pytest.FixtureRequest) -> str:
    """Ours always, the real package's server where it can be started."""
    if request.param == REAL:
        need_real_python()
    return str(request.param)


@pytest.fixture
def serve(servers: Serve, implementation: str) -> Serve:
    """`serve("Brush")`: the server of a sample on the implementation under test."""
    return lambda name: servers(name, implementation)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    """`own("Slow", arguments=...)`: a server for one test alone, which may kill it."""
    made: list[MLServer] = []

    def start(name: str, implementation: str = OURS, **options: Any) -> MLServer:
        made.append(MLServer(tmp_path / f"{name}-{len(made)}", name, implementation, **options))
        return made[-1]

    yield start
    for server in made:
        server.stop()


def ask(project: int = 5, count: int = 1, *, context: Any = None, **data: Any) -> dict[str, Any]:
    """A /predict request as Label Studio makes it."""
    tasks = [{"id": number + 1, "data": {"image": f"/{number}.png", **data}} for number in range(count)]
    params = {"login": None, "password": None, "context": context}
    return {"tasks": tasks, "project": f"{project}.1795397810", "label_config": CONFIG, "params": params}


def event(action: str = "ANNOTATION_CREATED", *, project: int = 5, **annotation: Any) -> dict[str, Any]:
    """A webhook as Label Studio makes it."""
    return {"action": action, "project": {"id": project, "label_config": CONFIG}, "annotation": {"id": 1, **annotation}}


def notes(answer: Any) -> list[Any]:
    """What the sample models wrote into the text of their predictions."""
    return [json.loads(entry["result"][-1]["value"]["text"][0]) for entry in answer["results"]]


def test_health_names_the_class(serve: Serve) -> None:
    for path in ("/health", "/"):
        answer = serve("Brush").client.get(path)
        assert answer.status_code == 200
        assert {"status": "UP", "model_class": "Brush"}.items() <= answer.json().items()


def test_setup_answers_with_the_version_that_the_class_set(serve: Serve) -> None:
    assert serve("Brush").post("/setup", payload("setup")) == {"model_version": "brush-1"}
    made = {"project": "77.1", "schema": CONFIG, "hostname": "http://x", "access_token": "t", "extra_params": None}
    assert serve("Witness").post("/setup", made) == {"model_version": "0.0.1"}


@pytest.mark.parametrize("name", ["predict_task_open", "predict_batch"])
def test_a_mask_for_every_task_of_a_captured_request(serve: Serve, name: str) -> None:
    body = payload(name)
    results = serve("Brush").post("/predict", body)["results"]
    assert len(results) == len(body["tasks"])
    for entry in results:
        assert (entry["model_version"], entry["score"]) == ("brush-1", 0.5)
        region = entry["result"][0]
        assert (region["from_name"], region["to_name"]) == ("tag", "image")
        assert region["value"]["brushlabels"] == ["Tumor"]


def test_the_class_sees_what_label_studio_sent(serve: Serve) -> None:
    body = payload("predict_batch")
    seen = notes(serve("Witness").post("/predict", body))
    assert [note["task"] for note in seen] == [task["id"] for task in body["tasks"]]
    first = seen[0]
    assert first["project"] == "1"
    assert first["context"] is None
    assert first["kwargs"] == {"login": None, "password": None}
    assert first["config"] == body["label_config"]
    assert first["parsed"]["tag"]["labels"] == ["Tumor", "Organ"]


def test_a_typed_prompt_reaches_the_class(serve: Serve) -> None:
    body = payload("predict_interactive_text_prompt")
    answer = serve("Interactive").post("/predict", body)
    assert notes(answer) == ["a tumor in the left lung"]
    assert answer["results"][0]["model_version"] == "typed-1"


def test_no_predictions_at_all_are_an_empty_list(serve: Serve) -> None:
    assert serve("Interactive").post("/predict", ask(count=3)) == {"results": []}


def test_several_predictions_for_a_task_keep_their_versions(serve: Serve) -> None:
    results = serve("Several").post("/predict", ask(count=2))["results"]
    assert [[one["model_version"] for one in entry] for entry in results] == [["a", "b"]] * 2


def test_versions_of_plain_dicts_are_kept(serve: Serve) -> None:
    results = serve("Witness").post("/predict", ask())["results"]
    assert (results[0]["model_version"], results[0]["score"]) == ("own", 0.25)


@pytest.mark.parametrize("name", ["START_TRAINING", "ANNOTATION_CREATED", "ANNOTATION_UPDATED"])
def test_fit_gets_the_event_and_its_state_reaches_predict_and_setup(serve: Serve, name: str) -> None:
    server, body = serve("Witness"), payload(f"webhook_{name}")
    project = 100 + sum(name.encode())
    body["project"]["id"] = project
    answer = server.client.post("/webhook", json=body)
    assert (answer.status_code, answer.json()["status"]) == (201, "ok")
    predict = partial(server.post, "/predict", ask(project))
    # The version is the last thing that a fit sets here.
    wait_until("fitted", lambda: notes(predict())[0]["version"] == "1.1.0")
    note = notes(predict())[0]
    number = body["annotation"]["id"] if "annotation" in body else None
    assert note["events"] == [[name, number, sorted(set(body) - {"action"})]]
    assert note["has"] == [True, False]
    assert note["version"] == "1.1.0"
    setup = {"project": f"{project}.1", "schema": CONFIG, "extra_params": None}
    assert server.post("/setup", setup) == {"model_version": "1.1.0"}


def test_projects_have_states_of_their_own(serve: Serve) -> None:
    server = serve("Witness")
    server.post("/webhook", event(project=31))
    wait_until("fitted", lambda: notes(server.post("/predict", ask(31)))[0]["events"])
    assert notes(server.post("/predict", ask(32)))[0]["events"] == []


@pytest.mark.parametrize("name", ["PROJECT_UPDATED", "TASKS_CREATED", "LABEL_LINK_DELETED"])
def test_events_that_no_model_learns_from_do_not_reach_fit(serve: Serve, name: str) -> None:
    server = serve("Witness")
    body = payload("webhook_PROJECT_UPDATED") if name == "PROJECT_UPDATED" else event(name)
    body["project"]["id"] = 41
    answer = server.client.post("/webhook", json=body)
    assert (answer.status_code, answer.json()) == (200, {"status": "Unknown event"})
    assert notes(server.post("/predict", ask(41)))[0]["events"] == []


def test_extra_params_are_kept(serve: Serve) -> None:
    server = serve("Witness")
    server.post("/setup", {"project": "51.1", "schema": CONFIG, "extra_params": '{"threshold": 0.4}'})
    assert notes(server.post("/predict", ask(51)))[0]["params"] == {"threshold": 0.4}
    assert notes(server.post("/predict", ask(52)))[0]["params"] == {}


def test_registered_functions_stand_in_for_a_class(serve: Serve) -> None:
    server = serve("LabelStudioMLBase")
    assert notes(server.post("/predict", ask(9))) == [{"project": "9", "updates": None}]
    server.post("/webhook", event("START_TRAINING", project=9))
    wait_until("updated", lambda: notes(server.post("/predict", ask(9)))[0]["updates"] == "START_TRAINING")


def test_metrics_answer(serve: Serve) -> None:
    assert serve("Brush").client.get("/metrics").status_code == 200


def test_an_error_of_the_class_is_a_500_and_the_server_goes_on(serve: Serve) -> None:
    server = serve("Wrong")
    answer = server.client.post("/predict", json=ask(kind="raise"))
    assert answer.status_code == 500
    assert "no such weights" in answer.text
    assert len(server.post("/predict", ask(count=9, kind="too many"))["results"]) == 9


def test_generated_requests_get_one_answer_per_task_in_order(serve: Serve) -> None:
    server, chance = serve("Witness"), random.Random(0)
    for _ in range(40):
        count = chance.choice([1, 2, 7, 300])
        text = "".join(chance.choices("aß€🙂\n\"'\\<&\u2028 ", k=20))
        body = ask(chance.randint(1, 2**31 - 1), count, context=chance.choice([None, {}, {"result": []}]), text=text)
        body["project"] = chance.choice([body["project"], body["project"].split(".")[0]])
        chance.shuffle(body["tasks"])
        if chance.random() < 0.5:
            body["params"].pop("login")
        seen = notes(server.post("/predict", body))
        assert [note["task"] for note in seen] == [task["id"] for task in body["tasks"]]
        assert {note["project"] for note in seen} == {body["project"].split(".")[0]}


@contextmanager
def files(folder: Path) -> Iterator[str]:
    """A folder over HTTP, as Label Studio gives out uploads."""
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_sdk_regions_label_maps_and_preloaded_files(own: Own, implementation: str, tmp_path: Path) -> None:
    folder = tmp_path / "www" / "data" / "upload" / "1"
    folder.mkdir(parents=True)
    (folder / "note.txt").write_text("from Label Studio")
    with files(tmp_path / "www") as url:
        environment = {"LABEL_STUDIO_URL": url, "LABEL_STUDIO_API_KEY": "legacy", "HOME": str(tmp_path)}
        server = own("Regions", implementation, environment=environment)
        body = ask(text=f"{url}/data/upload/1/note.txt", deep={"n": [1, None, "plain"]})
        answer = server.post("/predict", body)
    labels, data = notes(answer)[0]
    assert labels == {"tabby": "Cat", "dog": "Dog"} if implementation == REAL else {"tabby": "Cat", "DOG": "Dog"}
    assert data == {"image": "/0.png", "text": "from Label Studio", "deep": {"n": [1, None, "plain"]}}
    region = answer["results"][0]["result"][0]
    assert (region["from_name"], region["type"], region["value"]["choices"]) == ("choice", "choices", ["Cat"])


def test_basic_auth_guards_every_endpoint(own: Own, implementation: str) -> None:
    server = own("Witness", implementation, auth=("lead", "pass:word"))
    assert server.post("/predict", ask())["results"]
    for method, path in [("POST", "/setup"), ("POST", "/predict"), ("POST", "/webhook"), ("GET", "/metrics")]:
        for auth in (None, ("lead", "wrong"), ("other", "pass:word")):
            answer = httpx.request(method, f"http://127.0.0.1:{server.port}{path}", auth=auth, json={})
            assert answer.status_code == 401, (path, auth)
            assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")


def test_state_survives_a_sigkill(own: Own, implementation: str) -> None:
    server = own("Witness", implementation)
    for number in range(3):
        server.post("/webhook", event(id=number))
    wait_until("fitted", lambda: len(notes(server.post("/predict", ask()))[0]["events"]) == 3)
    if implementation != REAL:
        # A fit that is over but not noted as over would rightly be begun again.
        wait_until("noted", lambda: server.report()["fits"]["fitted"] == 3)
    server.kill()
    server.start()
    note = notes(server.post("/predict", ask()))[0]
    assert [entry[1] for entry in note["events"]] == [0, 1, 2]
    assert note["version"] == "1.3.0"
