"""Connecting a project of a real Label Studio, and repairing every broken state known."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backend_peer import BackendPeer, backend_peer
from labelstudio_fixture import OPEN_NETWORK, LabelStudioServer, start_label_studio

from maskloop_backend.labelstudio.client import LabelStudio, Project
from maskloop_backend.labelstudio.connect import check_order, connect, inspect
from maskloop_backend.labelstudio.findings import Connection

CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="mask" toName="image">'
    '<Label value="White matter"/></BrushLabels></View>'
)


@pytest.fixture
def client(label_studio: LabelStudioServer) -> Iterator[LabelStudio]:
    with LabelStudio(label_studio.url, label_studio.pat) as made:
        yield made


@pytest.fixture
def project(client: LabelStudio) -> Iterator[int]:
    made = client.create_project("connect test", CONFIG).id
    yield made
    client.delete_project(made)


@pytest.fixture
def peer() -> Iterator[BackendPeer]:
    with backend_peer() as served:
        yield served


def known(peer: BackendPeer) -> dict[str, Any]:
    return {"backend_url": peer.url + "/", "username": peer.username, "password": peer.password}


def levels(connection: Connection) -> list[str]:
    return [finding.level for finding in connection.findings]


def told(connection: Connection, level: str) -> str:
    return "\n".join(f"{finding.what} {finding.fix}" for finding in connection.findings if finding.level == level)


def assert_whole(client: LabelStudio, project: int, peer: BackendPeer) -> None:
    """One backend, one webhook, fit settings; nothing left to change; events arrive with credentials."""
    again = connect(client, project, **known(peer))
    assert set(levels(again)) == {"ok"}, again.findings
    assert inspect(client, project, **known(peer)).findings == again.findings
    (backend,) = client.backends(project)
    assert (backend.url, backend.title, backend.state, backend.basic_auth) == (peer.url, "Maskloop", "Connected", True)
    (webhook,) = client.webhooks(project)
    assert webhook.url == peer.url + "/webhook"
    settings = client.project(project)
    assert (settings.sampling, settings.model_version) == ("Uncertainty sampling", "")
    assert settings.show_collab_predictions
    assert not settings.evaluate_predictions_automatically
    before = len(peer.seen("/webhook"))
    (task,) = client.import_tasks(project, [{"image": "https://images.test/1.png"}])
    made = client.create_annotation(task, [])
    client.update_annotation(made.id, cancelled=True)
    client.delete_annotation(made.id)
    actions = ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"]
    assert peer.seen("/webhook")[before:] == [(200, {"action": action}) for action in actions]
    client.delete_task(task)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["token", "pat"])
def test_a_new_project_is_connected_once(label_studio: LabelStudioServer, peer: BackendPeer, kind: str) -> None:
    with LabelStudio(label_studio.url, getattr(label_studio, kind)) as client:
        project = client.create_project("from scratch", CONFIG).id
        looked = inspect(client, project, **known(peer))
        assert "No ML backend" in told(looked, "problem")
        assert "no webhook" in told(looked, "problem")
        assert client.backends(project) == []
        assert client.webhooks(project) == []
        done = connect(client, project, **known(peer))
        assert done.healthy
        assert levels(done) == ["ok", "ok", "changed", "changed", "changed", "changed"]
        assert client.token_kind in done.findings[0].what
        assert (done.ls_url, done.ls_id, done.title) == (label_studio.url, project, "from scratch")
        assert done.label_config == CONFIG
        assert done.interface is not None
        assert done.interface.labels == ("White matter",)
        assert_whole(client, project, peer)
        client.delete_project(project)


@pytest.mark.slow
def test_a_project_that_cannot_be_served_is_left_alone(client: LabelStudio, peer: BackendPeer) -> None:
    project = client.create_project("boxes", CONFIG.replace("BrushLabels", "RectangleLabels")).id
    done = connect(client, project, **known(peer))
    assert "RectangleLabels" in told(done, "problem")
    assert done.interface is None
    assert client.backends(project) == []
    assert client.project(project).sampling == "Sequential sampling"
    client.delete_project(project)


@pytest.mark.slow
def test_strangers_are_problems_with_a_cure(
    label_studio: LabelStudioServer, client: LabelStudio, peer: BackendPeer
) -> None:
    assert "has no project 999999" in told(connect(client, 999999, **known(peer)), "problem")
    with LabelStudio(label_studio.url, "f" * 40) as stranger:
        assert "personal access token" in told(connect(stranger, 1, **known(peer)), "problem")
    with LabelStudio(peer.url, "f" * 40) as other:
        assert not connect(other, 1, **known(peer)).healthy
    nothing = {**known(peer), "backend_url": "http://127.0.0.1:1"}
    project = client.create_project("nobody there", CONFIG).id
    assert "maskloop up" in told(connect(client, project, **nothing), "problem")
    wrong = {**known(peer), "password": "wrong"}
    assert "401" in told(connect(client, project, **wrong), "problem")
    client.delete_project(project)


@pytest.mark.slow
def test_a_webhook_without_credentials_or_missing_or_double(
    client: LabelStudio, project: int, peer: BackendPeer
) -> None:
    client.create_backend(
        project, url=peer.url, title="Maskloop", username=peer.username, password=peer.password, interactive=False
    )
    (task,) = client.import_tasks(project, [{"image": "https://images.test/1.png"}])
    client.create_annotation(task, [])
    assert peer.seen("/webhook")[-1][0] == 401
    assert "events were lost" in told(inspect(client, project, **known(peer)), "problem")
    assert "events were lost" in told(connect(client, project, **known(peer)), "changed")
    client.delete_task(task)
    assert_whole(client, project, peer)
    (webhook,) = client.webhooks(project)
    client.delete_webhook(webhook.id)
    assert "no webhook" in told(inspect(client, project, **known(peer)), "problem")
    assert "made, with credentials" in told(connect(client, project, **known(peer)), "changed")
    assert_whole(client, project, peer)
    for _ in range(2):
        client.create_webhook(project, url=peer.url + "/webhook", headers={}, actions=["TASKS_CREATED"], payload=True)
    assert "second time" in told(inspect(client, project, **known(peer)), "problem")
    assert told(connect(client, project, **known(peer)), "changed").count("second time") == 2
    assert_whole(client, project, peer)


@pytest.mark.slow
def test_a_moved_renamed_or_doubled_backend(client: LabelStudio, project: int, peer: BackendPeer) -> None:
    connect(client, project, **known(peer))
    with backend_peer() as moved:
        done = connect(client, project, **known(moved))
        assert f"its address was {peer.url}" in told(done, "changed")
        assert "former address" in told(done, "changed")
        assert_whole(client, project, moved)
        own: dict[str, Any] = {"username": moved.username, "password": moved.password, "interactive": False}
        (backend,) = client.backends(project)
        client.patch_backend(backend.id, project=project, url=moved.url, title="Renamed", **own)
        client.create_backend(project, url=moved.url, title="Maskloop", **own)
        client.set_model_version(project, "Renamed")
        assert not inspect(client, project, **known(moved)).healthy
        done = connect(client, project, **known(moved))
        assert "its title was 'Renamed'" in told(done, "changed")
        assert "one too many" in told(done, "changed")
        assert_whole(client, project, moved)


@pytest.mark.slow
def test_a_backend_with_an_old_password(client: LabelStudio, project: int, peer: BackendPeer) -> None:
    connect(client, project, **known(peer))
    peer.password = "changed-password"
    looked = inspect(client, project, **known(peer))
    assert "Label Studio found it error" in told(looked, "problem")
    assert "Repaired" in told(connect(client, project, **known(peer)), "changed")
    assert_whole(client, project, peer)


@pytest.mark.slow
def test_settings_that_hide_or_shuffle_are_set_right(client: LabelStudio, project: int, peer: BackendPeer) -> None:
    connect(client, project, **known(peer))
    client.patch_project(project, model_version="Maskloop")
    client.patch_project(
        project, sampling="Uniform sampling", evaluate_predictions_automatically=True, maximum_annotations=2
    )
    looked = inspect(client, project, **known(peer))
    for name in ("sampling", "evaluate_predictions_automatically", "model_version"):
        assert name in told(looked, "problem")
    assert "annotated 2 times" in told(looked, "ok")
    assert connect(client, project, **known(peer)).healthy
    client.patch_project(project, show_collab_predictions=False)
    assert "show_collab_predictions" in told(connect(client, project, **known(peer)), "changed")
    assert_whole(client, project, peer)


@pytest.mark.slow
def test_a_pushed_version_is_kept_and_a_foreign_backend_is_named(
    client: LabelStudio, project: int, peer: BackendPeer
) -> None:
    with backend_peer() as other:
        client.create_backend(
            project, url=other.url, title="SAM", username=other.username, password=other.password, interactive=False
        )
        (task,) = client.import_tasks(project, [{"image": "https://images.test/1.png"}])
        client.import_predictions(project, [{"task": task, "model_version": "v1", "score": 0.5, "result": []}])
        client.set_model_version(project, "v1")
        connect(client, project, **known(peer))
        done = connect(client, project, **known(peer))
        assert "'SAM'" in told(done, "problem")
        assert len(client.backends(project)) == 2
        assert client.project(project).model_version == "v1"


@pytest.mark.slow
def test_default_bans_and_the_half_connected_state_they_leave(
    label_studio: LabelStudioServer, tmp_path: Path, peer: BackendPeer
) -> None:
    banned = dict.fromkeys(OPEN_NETWORK, "") | {"USE_DEFAULT_BANNED_SUBNETS": "true"}
    server = start_label_studio(
        tmp_path / "banned", program=label_studio.program, template=label_studio.data, network=banned
    )
    try:
        with LabelStudio(server.url, server.token) as client:
            project = client.create_project("banned", CONFIG).id
            done = connect(client, project, **known(peer))
            assert "USER_ADDITIONAL_BANNED_SUBNETS=169.254.0.0/16" in told(done, "problem")
            assert "refuses to call" in told(done, "problem")
            assert client.backends(project) == []
            server.stop()
            server.start(ML_BLOCK_LOCAL_IP="false")
            done = connect(client, project, **known(peer))
            assert "USE_DEFAULT_BANNED_SUBNETS=false" in told(done, "problem")
            # The trap: the backend is there now, it even looks connected, and no event would ever come.
            assert len(client.backends(project)) == 1
            assert client.webhooks(project) == []
            assert "no webhook" in told(inspect(client, project, **known(peer)), "problem")
            assert not connect(client, project, **known(peer)).healthy
            server.stop()
            server.start(ML_BLOCK_LOCAL_IP="true", **OPEN_NETWORK)
            assert "made, with credentials" in told(connect(client, project, **known(peer)), "changed")
            assert_whole(client, project, peer)
    finally:
        server.stop()


def test_what_shuffles_label_studios_order_is_told() -> None:
    """Community neither makes nor lists members, so the rule is tried on its own."""
    fit = Project(1, "t", CONFIG, "v1", "Uncertainty sampling", True, False, 1, False, 10)
    assert list(check_order(fit, None)) == []
    assert list(check_order(fit, [7])) == []
    (members,) = check_order(fit, [7, 8])
    assert members.level == "problem"
    assert "2 members" in members.what
    assert "random" in members.what
    judged = Project(1, "t", CONFIG, "v1", "Uncertainty sampling", True, False, 3, True, 10)
    assert [finding.level for finding in check_order(judged, [])] == ["problem", "ok"]
