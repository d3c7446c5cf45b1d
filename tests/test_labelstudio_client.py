"""The client against a real Label Studio."""

import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from backend_peer import backend_peer
from flaky_proxy import flaky_proxy
from labelstudio_fixture import LabelStudioServer
from PIL import Image

from maskloop_backend.labelstudio import paging, predictions, transport
from maskloop_backend.labelstudio.client import Changes, LabelStudio, LabelStudioError
from maskloop_backend.labelstudio.views import UNLABELLED

pytestmark = pytest.mark.slow

CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="mask" toName="image">'
    '<Label value="White matter"/><Label value="Grey matter"/></BrushLabels></View>'
)


def regions(length: int = 20) -> list[dict[str, Any]]:
    value = {"format": "rle", "rle": [0] * length, "brushlabels": ["White matter"]}
    names = {"id": "r1", "type": "brushlabels", "from_name": "mask", "to_name": "image"}
    return [{**names, "original_width": 8, "original_height": 8, "image_rotation": 0, "value": value}]


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), value).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def client(label_studio: LabelStudioServer) -> Iterator[LabelStudio]:
    with LabelStudio(label_studio.url, label_studio.pat) as made:
        yield made


@pytest.fixture
def project(client: LabelStudio) -> Iterator[int]:
    made = client.create_project("client test", CONFIG).id
    yield made
    client.delete_project(made)


def tasks_of(client: LabelStudio, project: int, count: int) -> list[int]:
    return client.import_tasks(project, [{"image": f"https://images.test/{number}.png"} for number in range(count)])


@pytest.mark.parametrize("kind", ["token", "pat"])
def test_both_kinds_of_token_enter_and_open_uploaded_files(label_studio: LabelStudioServer, kind: str) -> None:
    with LabelStudio(label_studio.url + "/", getattr(label_studio, kind)) as client:
        assert client.whoami()["email"] == label_studio.username
        assert client.version().startswith("1.23")
        assert label_studio.username in client.users().values()
        project = client.create_project("files", CONFIG).id
        paths = client.upload_files(project, [("slice one.png", png(1)), ("slice two.png", png(2))])
        assert paths[0].endswith("-slice_one.png")
        for number, path in enumerate(paths, 1):
            assert httpx.get(client.url + path, headers=client.fetch_headers()).content == png(number)
            assert httpx.get(client.url + path).status_code == 401
        client.delete_project(project)


def test_an_access_token_is_renewed_before_its_end_and_after_a_401(client: LabelStudio) -> None:
    first = client.fetch_headers()
    assert client.fetch_headers() == first
    client._renew_at = 0.0
    second = client.fetch_headers()
    assert second != first
    client._access = "not-a-token"
    assert client.whoami()["id"]


def test_wrong_tokens_name_their_kind_and_the_cure(label_studio: LabelStudioServer) -> None:
    with LabelStudio(label_studio.url, "f" * 40) as client, pytest.raises(LabelStudioError) as legacy:
        client.whoami()
    assert legacy.value.status == 401
    assert "Invalid token" in legacy.value.said
    assert "legacy" in legacy.value.fix
    with (
        LabelStudio(label_studio.url, label_studio.pat[:-4] + "AAAA") as client,
        pytest.raises(LabelStudioError) as pat,
    ):
        client.whoami()
    assert pat.value.status == 401
    assert "personal access token" in pat.value.fix


def test_every_change_of_an_annotation_moves_its_task(client: LabelStudio, project: int) -> None:
    tasks = tasks_of(client, project, 5)
    clock = datetime.now(UTC)

    def seen(after: datetime) -> Changes:
        return client.changed_tasks(project, after)

    assert {row.id for row in seen(clock - timedelta(minutes=1)).tasks} == set(tasks)

    def moved(action: Any) -> tuple[Any, Changes]:
        before = client.all_tasks(project)
        outcome = action()
        last = max(row.updated_at for row in before.values())
        changes = seen(last + timedelta(microseconds=1))
        assert [row.id for row in changes.tasks] == [tasks[1]]
        assert changes.until <= datetime.now(UTC)
        return outcome, changes

    made, changes = moved(lambda: client.create_annotation(tasks[1], regions(), lead_time=2.5))
    assert [(head.id, head.cancelled) for head in changes.tasks[0].annotations] == [(made.id, False)]
    assert changes.tasks[0].data == {"image": "https://images.test/1.png"}
    edited, changes = moved(lambda: client.update_annotation(made.id, result=regions(30)))
    assert changes.tasks[0].annotations[0].updated_at == edited.updated_at > made.updated_at
    _, changes = moved(lambda: client.update_annotation(made.id, cancelled=True))
    assert changes.tasks[0].annotations[0].cancelled
    _, changes = moved(lambda: client.update_annotation(made.id, cancelled=False))
    assert not changes.tasks[0].annotations[0].cancelled
    _, changes = moved(lambda: client.delete_annotation(made.id))
    assert changes.tasks[0].annotations == ()
    skipped, changes = moved(lambda: client.create_annotation(tasks[1], [], cancelled=True))
    assert [(head.id, head.cancelled) for head in changes.tasks[0].annotations] == [(skipped.id, True)]
    moved(lambda: client.delete_annotation(skipped.id))
    client.delete_annotation(skipped.id)
    assert client.annotation(skipped.id) is None


def test_pages_miss_no_task_when_others_change_and_vanish_meanwhile(
    client: LabelStudio, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "FIRST_PAGE", 5)
    monkeypatch.setattr(paging, "LARGEST_PAGE", 5)
    tasks = tasks_of(client, project, 23)
    seen: list[int] = []
    for page in client._pages(project, "id,updated_at", where=[paging.since(datetime(2000, 1, 1, tzinfo=UTC))]):
        seen += [row["id"] for row in page]
        if len(seen) == 5:
            client.create_annotation(tasks[6], regions())  # would move to the end of an order by time
            client.delete_task(tasks[0])  # would shift every page by one
    assert seen == tasks
    assert set(client.all_tasks(project)) == set(tasks[1:])


def test_annotations_come_whole_with_skipped_ones_and_their_author(client: LabelStudio, project: int) -> None:
    tasks = tasks_of(client, project, 25)
    client.import_predictions(project, [{"task": tasks[0], "model_version": "v1", "score": 0.5, "result": regions()}])
    parent = client.predictions_index(project)[0].id
    made = client.create_annotation(tasks[0], regions(33), lead_time=12.25, parent_prediction=parent)
    skipped = client.create_annotation(tasks[24], [], cancelled=True)
    found = client.annotations(project, [*tasks, 10**9])
    assert set(found) == set(tasks)
    assert found[tasks[0]] == [client.annotation(made.id)]
    whole = found[tasks[0]][0]
    assert (whole.lead_time, whole.parent_prediction, whole.cancelled) == (12.25, parent, False)
    assert whole.result == regions(33)
    assert client.users()[whole.author or 0] == client.whoami()["email"]
    assert [(head.id, head.cancelled) for head in found[tasks[24]]] == [(skipped.id, True)]
    assert found[tasks[1]] == []
    assert client.annotations(project, []) == {}


def test_three_hundred_predictions_doubles_and_lost_tasks(client: LabelStudio, project: int) -> None:
    tasks = tasks_of(client, project, 300)
    rows = [
        {"task": task, "model_version": "v1", "score": number / 300, "result": regions(2000)}
        for number, task in enumerate(tasks)
    ]
    client.delete_task(tasks[150])
    sent = client.import_predictions(project, rows)
    assert (sent.created, sent.unknown_tasks) == (299, frozenset({tasks[150]}))
    assert client.model_versions(project) == {"v1": 299}
    again = client.import_predictions(project, [{**row, "score": 0.9} for row in rows[:3]])
    assert again.created == 3
    client.import_predictions(project, [{**rows[4], "model_version": "v2"}])
    counts = client.prediction_counts(project)
    doubles = [task for task, count in counts.items() if count.total > len(count.versions)]
    assert doubles == tasks[:3]
    assert counts[tasks[4]].versions == {"v1", "v2"}
    index = client.predictions_index(project, "v1", tasks=doubles)
    assert len(index) == 6
    newest = [max(row.id for row in index if row.task == task) for task in doubles]
    assert client.delete_predictions(newest) == 3
    assert client.delete_predictions(newest) == 0
    rest = client.predictions_index(project, "v1")
    assert sorted(row.task for row in rest) == sorted(set(tasks) - {tasks[150]})
    assert {row.task: row.score for row in rest}[tasks[299]] == 299 / 300
    client.set_score(rest[0].id, 0.1 + 0.2)
    assert getattr(client.prediction(rest[0].id), "score", None) == 0.1 + 0.2
    assert client.delete_version(project, "v1") == 299
    assert client.model_versions(project) == {"v2": 1}
    with pytest.raises(LabelStudioError, match="Model version doesn't exist"):
        client.set_model_version(project, "v1")


def test_requests_are_bounded_by_rows_and_by_bytes(
    client: LabelStudio, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = tasks_of(client, project, 10)
    sizes: list[int] = []
    push = client._push

    def watched(number: int, batch: list[Any]) -> int:
        sizes.append(len(batch))
        return push(number, batch)

    monkeypatch.setattr(client, "_push", watched)
    monkeypatch.setattr(predictions, "BYTES_PER_PUSH", 30_000)
    rows = [{"task": task, "model_version": "v", "score": 0.5, "result": regions(2000)} for task in tasks]
    assert client.import_predictions(project, rows).created == 10
    assert sizes == [2, 2, 2, 2, 2]


def test_the_stream_and_the_data_manager_serve_the_lowest_score_first(
    label_studio: LabelStudioServer, client: LabelStudio, project: int
) -> None:
    tasks = tasks_of(client, project, 6)
    scores = [0.5, 0.1 + 1e-12, 0.9, 0.1, 0.7, 0.3]
    for version, values in (("old", scores[::-1]), ("new", scores)):
        rows = zip(tasks, values, strict=True)
        client.import_predictions(
            project, [{"task": t, "model_version": version, "score": s, "result": regions()} for t, s in rows]
        )
    client.set_model_version(project, "new")
    client.patch_project(project, sampling="Uncertainty sampling")
    expected = [task for _, task in sorted(zip(scores, tasks, strict=True))]
    assert client.ordered_tasks(project, "tasks:predictions_score") == list(zip(expected, sorted(scores), strict=True))
    email = f"fresh-{time.time_ns()}@maskloop.test"
    with LabelStudio(label_studio.url, label_studio.new_user(email)) as fresh:
        served = []
        for _ in tasks:
            task = fresh.next_task(project) or {}
            served.append(task["id"])
            assert [row["model_version"] for row in task["predictions"]] == ["new"]
            assert client.busy_tasks(project) == {task["id"]}
            parent = task["predictions"][0]["id"]
            assert fresh.create_annotation(task["id"], regions(), parent_prediction=parent).parent_prediction == parent
        assert served == expected
        assert fresh.next_task(project) is None
    assert client.busy_tasks(project) == set()
    label_studio.api("POST", f"/api/tasks/{tasks[2]}/drafts", json={"result": regions()}).raise_for_status()
    assert client.busy_tasks(project) == {tasks[2]}
    view = client.ensure_view(project, "By uncertainty", ordering="tasks:predictions_score", where=[UNLABELLED])
    assert client.ensure_view(project, "By uncertainty", ordering="tasks:predictions_score", where=[UNLABELLED]) == view


def test_an_open_task_survives_the_switch_but_not_the_deletion(client: LabelStudio, project: int) -> None:
    tasks = tasks_of(client, project, 2)
    for version in ("v1", "v2"):
        rows = [{"task": task, "model_version": version, "score": 0.5, "result": regions()} for task in tasks]
        client.import_predictions(project, rows)
        client.set_model_version(project, version)
        if version == "v1":
            opened = {row.task: row.id for row in client.predictions_index(project, "v1")}
    saved = client.create_annotation(tasks[0], regions(), parent_prediction=opened[tasks[0]])
    assert saved.parent_prediction == opened[tasks[0]]
    client.delete_predictions(opened.values())
    assert getattr(client.annotation(saved.id), "parent_prediction", 0) is None
    with pytest.raises(LabelStudioError, match="does not exist"):
        client.create_annotation(tasks[1], regions(), parent_prediction=opened[tasks[1]])


def test_tasks_are_imported_with_files_names_and_annotations(client: LabelStudio, project: int) -> None:
    paths = client.upload_files(project, [(f"s{number}.png", png(number)) for number in range(120)])
    assert [path.rsplit("-", 1)[1] for path in paths] == [f"s{number}.png" for number in range(120)]
    rows = [{"data": {"image": path, "name": f"n{number}"}} for number, path in enumerate(paths)]
    rows[0]["annotations"] = [{"result": regions(7), "lead_time": 1.5}]  # type: ignore[assignment]
    tasks = client.import_tasks(project, rows)
    assert client.task_data(project, tasks[-1:]) == {tasks[-1]: {"image": paths[-1], "name": "n119"}}
    changes = client.changed_tasks(project, None)
    assert [row.id for row in changes.tasks] == tasks
    assert [annotation.result for annotation in client.annotations(project, tasks[:1])[tasks[0]]] == [regions(7)]


def test_no_listing_makes_label_studio_ask_for_predictions(client: LabelStudio, project: int) -> None:
    with backend_peer() as peer:
        client.create_backend(
            project, url=peer.url, title="P", username=peer.username, password=peer.password, interactive=False
        )
        tasks = tasks_of(client, project, 3)
        client.changed_tasks(project, None)
        client.all_tasks(project)
        client.annotations(project, tasks)
        client.task_data(project, tasks)
        client.prediction_counts(project)
        client.predictions_index(project)
        client.busy_tasks(project)
        client.ordered_tasks(project, "tasks:id")
        client.project(project)
        client.backends(project)
        assert peer.seen("/setup")
        assert not peer.seen("/predict")
        assert client.model_versions(project) == {}


def test_a_sub_path_is_kept_and_passing_failures_are_tried_again(label_studio: LabelStudioServer) -> None:
    with flaky_proxy(label_studio.url) as proxy, LabelStudio(proxy.url + "/", label_studio.pat) as client:
        assert client.url.endswith("/studio")
        assert client.whoami()["email"] == label_studio.username
        proxy.faults = [("before", 503, {}), ("after",), ("before", 429, {"Retry-After": "1"})]
        begun = time.monotonic()
        assert client.whoami()["email"] == label_studio.username
        assert 1.0 <= time.monotonic() - begun < 10
        proxy.faults = [("before", 502, {})] * transport.ATTEMPTS
        with pytest.raises(LabelStudioError, match="HTTP 502"):
            client.whoami()
        assert proxy.faults == []
        proxy.faults = [("page",)]
        with pytest.raises(LabelStudioError, match="does not look like Label Studio"):
            client.whoami()


def test_what_may_have_happened_is_not_done_twice(label_studio: LabelStudioServer) -> None:
    with flaky_proxy(label_studio.url) as proxy, LabelStudio(proxy.url, label_studio.token) as client:
        project = client.create_project("once only", CONFIG).id
        tasks = tasks_of(client, project, 2)
        rows = [{"task": task, "model_version": "v", "score": 0.5, "result": regions()} for task in tasks]
        proxy.faults = [("after",)]
        with pytest.raises(LabelStudioError, match="no answer"):
            client.import_predictions(project, rows)
        assert client.model_versions(project) == {"v": 2}
        proxy.faults = [("before", 429, {})]  # refused before it began: that one may be sent again
        assert client.import_predictions(project, rows[:1]).created == 1
        client.delete_project(project)
