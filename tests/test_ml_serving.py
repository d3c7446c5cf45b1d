"""What our server of label-studio-ml models adds: fits in the background, shared state, clear errors."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from ml_server import FLOORS, ROOT, MLClient, MLServer, end, serve_many
from test_ml_base import CONFIG, ask, event, notes, payload
from valkey_fixture import wait_until

from maskloop_backend.ml_base import LabelStudioMLBase, MissingExtra, ModelResponse, PredictionError, PredictionValue
from maskloop_backend.ml_base.checks import encode_results
from maskloop_backend.ml_base.files import access_token, is_remote_file
from maskloop_backend.ml_base.helpers import InMemoryLRUDictCache, get_first_tag_keys, get_single_tag_keys, match_labels
from maskloop_backend.ml_base.labels import match_model_labels
from maskloop_backend.ml_base.loading import LoadError, load_class
from maskloop_backend.ml_base.state import State
from maskloop_backend.ml_base.versions import next_minor
from maskloop_learner.settings import get_settings

SHARED = ["Witness", "Versions", "Wrong", "Slow", "Kept", "Brush", "Bare"]
Own = Callable[..., MLServer]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, MLClient]]:
    """The samples, each on a port of one process."""
    process, clients = serve_many(tmp_path_factory.mktemp("ours"), SHARED)
    yield clients
    end(process)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    """`own("Slow", ...)`: a server for one test alone, which may kill it."""
    made: list[MLServer] = []

    def start(name: str, **options: Any) -> MLServer:
        made.append(MLServer(tmp_path / f"{name}-{len(made)}", name, **options))
        return made[-1]

    yield start
    for server in made:
        server.stop()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder for models that are made in the test's own process."""
    monkeypatch.setenv("MASKLOOP_HOME", str(tmp_path))
    get_settings.cache_clear()
    yield tmp_path
    get_settings.cache_clear()


def log_of(server: MLClient, project: int) -> list[Any]:
    """What fit of `Slow` wrote down."""
    log: list[Any] = notes(server.post("/predict", ask(project)))[0]["log"]
    return log


def test_a_webhook_is_answered_while_fit_runs_and_fits_keep_their_order(servers: dict[str, MLClient]) -> None:
    server = servers["Slow"]
    start = time.monotonic()
    for number in range(3):
        server.post("/webhook", event(project=61, id=number, seconds=0.4))
    server.post("/webhook", event(project=62, id=9))
    assert time.monotonic() - start < 1.0, "Label Studio gives a webhook one second"
    wait_until("the other project's fit", lambda: log_of(server, 62) == [["begin", 9], ["end", 9]])
    assert ["end", 2] not in log_of(server, 61), "one project's fits must not hold up another's"
    wait_until("all fits", lambda: ["end", 2] in log_of(server, 61))
    assert log_of(server, 61) == [[what, number] for number in range(3) for what in ("begin", "end")]


def test_an_error_in_fit_is_logged_shown_and_does_not_stop_the_next(servers: dict[str, MLClient]) -> None:
    server = servers["Slow"]
    before = server.report()["fits"]
    server.post("/webhook", event(project=63, id=4711, fail=True))
    server.post("/webhook", event(project=63, id=2))
    wait_until("the next fit", lambda: ["end", 2] in log_of(server, 63))
    wait_until("counted", lambda: server.report()["fits"]["fitted"] > before["fitted"])
    report = server.report()
    assert report["fits"]["failed"] == before["failed"] + 1
    assert report["last_error"]["what"] == "ValueError: cannot learn from 4711"
    assert report["last_error"]["where"] == "fit of project 63 on ANNOTATION_CREATED"
    assert "ml_samples.py" in report["last_error"]["line"]
    text = server.log.read_text()
    assert "Traceback" in text
    assert "cannot learn from 4711" in text


def test_health_answers_while_predict_is_busy_in_threads(servers: dict[str, MLClient]) -> None:
    server = servers["Slow"]
    seen: list[Any] = []
    threads = [
        threading.Thread(target=lambda: seen.append(notes(server.post("/predict", ask(64, seconds=1.0)))[0]))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    start = time.monotonic()
    server.report()
    assert time.monotonic() - start < 0.7
    for thread in threads:
        thread.join()
    assert max(note["running"] for note in seen) > 1, "requests to predict must run beside each other"


@pytest.mark.parametrize("name", ["ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED"])
def test_bulk_events_reach_fit(servers: dict[str, MLClient], name: str) -> None:
    server, body = servers["Witness"], payload(f"webhook_{name}")
    project = 200 + sum(name.encode())
    body["project"]["id"] = project
    answer = server.client.post("/webhook", json=body)
    assert answer.status_code == 201
    assert answer.json()["job"].startswith("fit-")
    wait_until("fitted", lambda: notes(server.post("/predict", ask(project)))[0]["events"])
    assert notes(server.post("/predict", ask(project)))[0]["events"][0][0] == name


def test_a_webhook_without_its_payload_survives(servers: dict[str, MLClient]) -> None:
    server = servers["Bare"]
    bare = {"action": "ANNOTATION_CREATED"}
    assert server.client.post("/webhook", json=bare).json() == {"status": "no project"}
    server.post("/predict", ask(71))
    assert server.post("/webhook", bare)["status"] == "ok"  # the only project there is
    wait_until("fitted", lambda: notes(server.post("/predict", ask(71)))[0]["events"])
    assert notes(server.post("/predict", ask(71)))[0]["events"] == [["ANNOTATION_CREATED", None, ["project"]]]
    server.post("/predict", ask(72))
    assert server.client.post("/webhook", json=bare).json() == {"status": "no project"}  # one of two
    named = server.client.post("/webhook", json=bare, headers={"X-Maskloop-Project": "72"})
    assert named.json()["status"] == "ok"
    wait_until("fitted", lambda: notes(server.post("/predict", ask(72)))[0]["events"])


def test_a_fit_that_a_sigkill_cut_off_is_begun_again(own: Own) -> None:
    server = own("Slow")
    server.post("/webhook", event(id=1, seconds=2))
    server.post("/webhook", event(id=2))
    wait_until("fit has begun", lambda: log_of(server, 5) == [["begin", 1]])
    server.kill()
    server.start()
    wait_until("both fits", lambda: ["end", 2] in log_of(server, 5))
    assert log_of(server, 5) == [["begin", 1], ["begin", 1], ["end", 1], ["begin", 2], ["end", 2]]


@pytest.mark.slow
def test_an_event_that_kills_the_process_is_given_up_by_a_worker_that_lives(own: Own) -> None:
    server = own("Slow", arguments=("--workers", "2"))
    server.post("/webhook", event(id=1, die=True))
    wait_until("taken", lambda: sent_if_up(server, event(id=2)), timeout=30)
    wait_until("the event after it", lambda: ["end", 2] in log_if_up(server), timeout=90)
    found = log_of(server, 5)
    assert found[:5] == [["begin", 1]] * 3 + [["begin", 2], ["end", 2]]
    # Sent again when the worker that took it was killed before it answered.
    assert all(number == 2 for _, number in found[5:])
    assert "the process died 3 times in fit" in server.report()["last_error"]["what"]


def sent_if_up(server: MLClient, body: dict[str, Any]) -> bool:
    """Whether an event was taken; not when the worker that had the connection was killed."""
    try:
        server.post("/webhook", body)
    except httpx.TransportError:
        return False
    return True


def log_if_up(server: MLClient) -> list[Any]:
    """What fit wrote down; nothing when the worker that had the connection was killed."""
    try:
        return log_of(server, 5)
    except httpx.TransportError:
        return []


@pytest.mark.slow
def test_all_worker_processes_see_new_state_at_once(own: Own) -> None:
    server = own("Slow", arguments=("--workers", "2"))
    pids: set[int] = set()

    def both_answered() -> bool:
        with httpx.Client(base_url=server.client.base_url) as client:
            pids.add(notes(client.post("/predict", json=ask()).raise_for_status().json())[0]["pid"])
        return len(pids) > 1

    wait_until("two workers answered", both_answered, timeout=60, every=0.01)
    server.post("/webhook", event(id=5))
    wait_until("fitted", lambda: ["end", 5] in log_of(server, 5))
    pids.clear()
    for _ in range(40):
        with httpx.Client(base_url=server.client.base_url) as client:
            note = notes(client.post("/predict", json=ask()).raise_for_status().json())[0]
        pids.add(note["pid"])
        assert note["log"] == [["begin", 5], ["end", 5]]
    assert len(pids) == 2


def test_bump_model_version_raises_the_version_that_setup_answers_with(servers: dict[str, MLClient]) -> None:
    server = servers["Versions"]
    setup = {"project": "81.1", "schema": CONFIG, "extra_params": None}
    assert server.post("/setup", setup) == {"model_version": "3.4.5"}
    server.post("/webhook", event("START_TRAINING", project=81))
    wait_until("bumped", lambda: server.post("/setup", setup) == {"model_version": "3.5.0"})
    result = server.post("/predict", ask(81))["results"][0]
    assert result["model_version"] == "3.5.0", "a prediction without a version gets the model's"
    assert "3.5.0" in server.client.get("/versions").json()["versions"]


def test_extra_params_may_be_an_object(servers: dict[str, MLClient]) -> None:
    server, params = servers["Witness"], {"threshold": 0.4, "names": ["a"]}
    server.post("/setup", {"project": "82.1", "schema": CONFIG, "extra_params": params})
    assert notes(server.post("/predict", ask(82)))[0]["params"] == params


WRONG = {
    "too few": "Wrong.predict returned 1 predictions for 2 tasks",
    "too many": "Wrong.predict returned 9 predictions for 2 tasks",
    "not finite": "task 2: `score` is nan; it must be finite",
    "infinite region": "task 2: cannot be sent as JSON: a number is not finite",
    "no score": "task 1: `score` must be a number or None, got 'high'",
    "no result": "task 1: a prediction needs `result`",
    "text": "Wrong.predict returned str 'a mask'; return a list",
    "no json": "task 2: cannot be sent as JSON: object is not JSON",
    "raise": "KeyError: 'no such weights'",
    "exit": "SystemExit: 3",
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_sent_is_named(servers: dict[str, MLClient], kind: str) -> None:
    server = servers["Wrong"]
    answer = server.client.post("/predict", json=ask(83, 2, kind=kind))
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert WRONG[kind] in error["what"]
    assert error["value"] == "predict of project 83"
    assert WRONG[kind] in server.report()["last_error"]["what"]


def test_no_prediction_for_a_task_is_an_empty_list(servers: dict[str, MLClient]) -> None:
    assert servers["Wrong"].post("/predict", ask(count=2, kind="nothing")) == {"results": []}
    assert servers["Wrong"].post("/predict", ask(count=2, kind="some"))["results"][1] == []


@pytest.mark.parametrize(
    ("path", "body", "what"),
    [
        ("/predict", b"{", "not valid JSON"),
        ("/predict", b"[]", "not a JSON object"),
        ("/predict", b'{"tasks": {"id": 1}}', "`tasks` is not"),
        ("/predict", b'{"tasks": [], "params": 3}', "`params` is not"),
        ("/setup", b"nonsense", "not valid JSON"),
        ("/webhook", b'{"event": "x"}', "`action` is not"),
        ("/webhook", b'{"action": ["x"]}', "`action` is not"),
    ],
)
def test_malformed_requests_are_refused_with_a_reason(
    servers: dict[str, MLClient], path: str, body: bytes, what: str
) -> None:
    answer = servers["Brush"].client.post(path, content=body)
    assert answer.status_code == 400
    assert what in answer.json()["error"]["what"]


def test_a_bad_label_config_is_an_error_of_the_request_alone(servers: dict[str, MLClient]) -> None:
    body = ask(84)
    body["label_config"] = "<View><Broken"
    assert servers["Brush"].client.post("/predict", json=body).status_code == 500
    assert len(servers["Brush"].post("/predict", ask(84))["results"]) == 1


def test_an_object_that_is_kept_is_made_again_when_its_state_changed(servers: dict[str, MLClient]) -> None:
    server = servers["Kept"]

    def predict() -> Any:
        return notes(server.post("/predict", ask(85)))[0]

    predict()  # its first setup changes the state
    first, second = predict(), predict()
    assert second["made"] == first["made"]
    assert second["used"] == first["used"] + 1
    server.post("/webhook", event(project=85))
    wait_until("a new object", lambda: predict()["version"] == "kept-1")
    assert predict()["made"] > second["made"]


def test_health_without_credentials_tells_nothing_but_that_it_is_up(own: Own) -> None:
    server = own("Wrong", auth=("lead", "secret"))
    server.client.post("/predict", json=ask(kind="raise"))
    assert "last_error" in server.report()
    url = f"http://127.0.0.1:{server.port}/health"
    assert httpx.get(url).json() == {"status": "UP", "model_class": "Wrong"}
    assert httpx.get(url, auth=("lead", "wrong")).status_code == 401
    assert server.stop() == 0


def test_figures_count_tasks_and_events(servers: dict[str, MLClient]) -> None:
    server = servers["Brush"]
    server.post("/predict", ask(count=7))
    text = server.client.get("/metrics").text
    assert 'maskloop_ml_tasks_total{outcome="answered"}' in text
    assert 'maskloop_ml_events{state="waiting"} 0.0' in text


def bump(home: Path, times: int) -> None:
    """Raise a version in a process of its own."""
    state = State(home, "Model")
    for _ in range(times):
        state.change("1", "model_version", next_minor)


def test_no_bump_of_several_processes_is_lost(tmp_path: Path) -> None:
    State(tmp_path, "Model").set("1", "model_version", "0.0.1")
    processes = [get_context("spawn").Process(target=bump, args=(tmp_path, 40)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert State(tmp_path, "Model").get("1", "model_version") == "0.80.0"


def test_state_is_apart_by_class_and_project_and_grows_a_revision(tmp_path: Path) -> None:
    one, other = State(tmp_path, "One"), State(tmp_path, "Other")
    one.set("1", "key", "ä\x00🙂" * 3)
    assert (one.get("1", "key"), one.get("2", "key"), other.get("1", "key")) == ("ä\x00🙂" * 3, None, None)
    revision = one.revision("1")
    one.set("1", "key", one.get("1", "key") or "")
    assert one.revision("1") == revision
    one.set("1", "key", "new")
    assert one.revision("1") > revision
    assert one.projects() == ["1"]


def test_set_takes_strings_only(home: Path) -> None:
    model = LabelStudioMLBase("1", CONFIG)
    with pytest.raises(ValueError, match=r"set\('weights', ...\) takes a string, got list"):
        model.set("weights", [1, 2])  # type: ignore[arg-type]
    assert not model.has("weights")


def test_what_needs_a_label_config_says_so(home: Path) -> None:
    with pytest.raises(ValueError, match="project '1' has no label config yet"):
        _ = LabelStudioMLBase("1").label_interface
    assert LabelStudioMLBase("1", CONFIG).get_first_tag_occurence("BrushLabels", "Image") == ("tag", "image", "image")
    assert LabelStudioMLBase("1").label_config == CONFIG, "the project's last config is kept"


@pytest.mark.parametrize("version", ["yolo", "1.2", "", None])
def test_a_version_that_is_no_number_cannot_be_bumped(version: str | None) -> None:
    with pytest.raises(ValueError, match="cannot be bumped"):
        next_minor(version)


def test_foreign_responses_are_taken_by_their_looks() -> None:
    class Foreign:
        def __init__(self) -> None:
            self.model_version, self.predictions = "f-1", [{"result": [], "score": np.float32(0.5)}]

    class Dumped:
        def model_dump(self) -> dict[str, Any]:
            return {"predictions": [{"result": [{"value": {"rle": np.arange(3)}}]}], "model_version": None}

    from label_studio_sdk.label_interface.objects import PredictionValue as SdkValue

    def encoded(response: Any) -> Any:
        return json.loads(encode_results(response, [{"id": 1}], name="M", version="own")[0])

    assert encoded(Foreign()) == {"result": [], "score": 0.5, "model_version": "f-1"}
    assert encoded(Dumped()) == {"result": [{"value": {"rle": [0, 1, 2]}}], "model_version": "own"}
    assert encoded(ModelResponse(predictions=[SdkValue(result=[], score=0.1)]))["model_version"] == "own"
    assert encoded([SdkValue(result=[], score=None, model_version="s")])["score"] is None
    assert encoded(({"result": ()},)) == {"result": [], "model_version": "own"}
    with pytest.raises(PredictionError, match="return a list with one prediction per task"):
        encoded({"result": []})


def test_a_response_gives_its_version_to_predictions_that_have_none() -> None:
    response = ModelResponse(predictions=[PredictionValue(result=[]), [PredictionValue(result=[], model_version="a")]])
    assert not response.has_model_version()
    response.set_version("2")
    assert response.has_model_version()
    assert response.model_dump() == {
        "model_version": "2",
        "predictions": [
            {"model_version": "2", "score": 0.0, "result": []},
            [{"model_version": "a", "score": 0.0, "result": []}],
        ],
    }


def test_labels_are_matched_by_predicted_values_then_by_name() -> None:
    config = {"Cat": "tabby, tiger, lynx", "Dog": "", "DOG": " ", "Fish": "trout"}
    names = ["tabby", "tiger", "dog", "bird"]
    assert match_model_labels(config, names) == {"tabby": "Cat", "tiger": "Cat", "dog": "DOG"}


@pytest.mark.parametrize(
    ("text", "remote"),
    [
        ("/data/upload/1/a.png", True),
        ("upload/1/a.png", True),
        ("/data/local-files/?d=a.png", True),
        ("s3://bucket/a.png", True),
        ("https://example.org/a.png", True),
        ("/etc/passwd", False),
        ("file:///etc/passwd", False),
        ("this is text", False),
        ("http://[broken", False),
        ("c:\\a.png", False),
    ],
)
def test_only_addresses_are_files_of_a_task(text: str, remote: bool) -> None:
    assert is_remote_file(text) is remote


def test_the_token_is_the_one_named_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_HOST", "LABEL_STUDIO_API_KEY", "LABEL_STUDIO_ACCESS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert access_token(tmp_path) is None
    (tmp_path / "labelstudio.json").write_text('{"http://labels:8080": "kept"}')
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://labels:8080/")
    assert access_token(tmp_path) == "kept"
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "named")
    assert access_token(tmp_path) == "named"


def test_helpers_of_the_examples() -> None:
    tag = {"type": "Choices", "to_name": ["t"], "inputs": [{"type": "Text", "value": "text"}], "labels": ["a"]}
    assert get_single_tag_keys({"c": tag}, "Choices", "Text") == ("c", "t", "text", ["a"])
    assert get_first_tag_keys({"c": tag}, "Choices", "Text") == ("c", tag)
    assert get_first_tag_keys({"c": tag}, "Labels", "Text") == (None, None)
    with pytest.raises(ValueError, match="needs Labels on one Text"):
        get_single_tag_keys({"c": tag}, "Labels", "Text")
    with pytest.raises(ValueError, match="must have one control tag, it has 2"):
        get_single_tag_keys({"c": tag, "d": tag}, "Choices", "Text")
    assert match_labels("positiv\nnegatve", ["Negative", "Positive"]) == ["Positive", "Negative"]
    cache = InMemoryLRUDictCache(2)
    for key in "aba":
        cache.put(key, key)
    cache.put("c", "c")
    assert ("a" in cache, "b" in cache, cache.get("c")) == (True, False, "c")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module:X", "there is no module 'no_such_module'"),
        ("nowhere/model.py:X", "there is no file 'nowhere/model.py'"),
        ("ml_samples:Nobody", "has no class 'Nobody'; it has: Bare, Brush, Interactive"),
        ("ml_samples", "must have one subclass of LabelStudioMLBase"),
        ("ml_samples:ModelResponse", "change its import line"),
    ],
)
def test_a_class_that_cannot_be_served_is_named(target: str, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        load_class(target)


def test_the_only_class_of_a_file_is_found(tmp_path: Path) -> None:
    text = "from maskloop_backend.ml_base import LabelStudioMLBase\nclass Mine(LabelStudioMLBase):\n    pass\n"
    (tmp_path / "mine_model.py").write_text(text)
    assert load_class(str(tmp_path / "mine_model.py")).__name__ == "Mine"


def command(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """`maskloop serve`, which is expected to end by itself."""
    environment = {"MASKLOOP_HOME": str(home), "PYTHONPATH": ":".join([*FLOORS, str(ROOT / "tests")]), "PATH": ""}
    call = [sys.executable, "-m", "maskloop_backend", "serve", *arguments]
    return subprocess.run(call, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_an_open_address_without_credentials_is_refused(tmp_path: Path) -> None:
    done = command("ml_samples:Brush", "--host", "0.0.0.0", home=tmp_path)
    assert done.returncode == 1
    assert "can be reached from other machines" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_one_line(tmp_path: Path, servers: dict[str, MLClient]) -> None:
    done = command("ml_samples:Brush", "--port", str(servers["Brush"].port), home=tmp_path)
    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_label_studio_sdk_and_torch_are_not_loaded_and_the_extra_is_named(tmp_path: Path) -> None:
    """A model that needs no label interface runs without label-studio-sdk."""
    code = f"""
import sys
sys.modules["label_studio_sdk"] = None
from maskloop_backend.ml_base import LabelStudioMLBase, MissingExtra
model = LabelStudioMLBase("1", {CONFIG!r})
for use in (lambda: model.label_interface, lambda: model.parsed_label_config, lambda: model.get_local_path("x")):
    try:
        use()
    except MissingExtra as error:
        print("maskloop[ml-base]" in str(error))
import maskloop_backend.ml_base.app
print("torch" in sys.modules)
"""
    environment = {"MASKLOOP_HOME": str(tmp_path), "PYTHONPATH": ":".join(FLOORS)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True", "False"]
    assert issubclass(MissingExtra, ImportError)


def test_a_version_that_a_fit_sets_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new object looks, finds no version, and is about to write the first one: the fit's stays."""
    monkeypatch.setenv("MASKLOOP_HOME", str(tmp_path))
    get_settings.cache_clear()

    class Model(LabelStudioMLBase):
        """Looks at its version just before a fit sets it."""

        def get(self, key: str) -> str | None:
            before = super().get(key)
            State(tmp_path, "Model").set("7", "model_version", "1.1.0")
            return before

    Model(project_id="7")
    assert State(tmp_path, "Model").get("7", "model_version") == "1.1.0"
    get_settings.cache_clear()
