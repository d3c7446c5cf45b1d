"""Mask kind x storage kind x token kind on a real Label Studio: a prediction goes out, a label comes back, exactly."""

from typing import Any

import pytest
from drawing import KINDS
from matrix_fixture import Bench, Cell, assert_same
from scans import SHOWN

from maskloop_backend.sync.comparing import compare_labels

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("token", ["pat", "legacy"])
@pytest.mark.parametrize("storage", ["upload", "local-files", "http", "s3-presign"])
@pytest.mark.parametrize("mask", KINDS)
def test_a_prediction_goes_out_and_a_label_comes_back(bench: Bench, mask: str, storage: str, token: str) -> None:
    """Three images are taken in byte for byte and their masks pushed; accepted, edited and untouched ones compared."""
    cell = Cell(bench, mask, storage, token)
    assert cell.connection.healthy, cell.connection.findings
    go_round(cell)
    cell.close()


@pytest.mark.parametrize("token", ["pat", "legacy"])
def test_a_storage_without_presigned_urls_is_read_through_label_studio(bench: Bench, token: str) -> None:
    """Label Studio passes the file on itself: the storage's host need not be named, nor be reachable for us."""
    cell = Cell(bench, "brush", "s3-proxy", token)
    cell.settings.image_hosts = None
    go_round(cell)
    cell.close()


def test_task_files_in_a_bucket_may_name_its_objects(bench: Bench) -> None:
    """A storage of JSON tasks: the images have addresses like s3://bucket/key in the tasks' data."""
    cell = Cell(bench, "brush", "s3-json", "pat")
    assert {task["data"]["image"].split("://")[0] for task in cell.stored()} == {"s3"}
    go_round(cell)
    cell.close()


def test_a_presigned_redirect_to_a_host_that_is_not_named_is_refused(bench: Bench) -> None:
    """The task says which setting would let it through, without the signature; naming the host cures it."""
    cell = Cell(bench, "brush", "s3-presign", "pat")
    named, cell.settings.image_hosts = cell.settings.image_hosts, None
    cell.pull()
    for task in cell.tasks():
        assert task.state == "failed"
        assert "MASKLOOP_IMAGE_HOSTS" in (task.error or "")
        assert "Amz" not in (task.error or "")
    cell.settings.image_hosts = named
    cell.make_due()
    cell.pull()
    assert {cell.file_of(task) for task in cell.tasks()} == set(SHOWN)
    cell.close()


def test_what_a_storage_lacks_is_said_with_its_address(bench: Bench) -> None:
    """A file that is gone from the bucket, and an address of a bucket that the project has no storage for."""
    cell = Cell(bench, "brush", "s3-presign", "pat")
    bench.places.s3.client.delete_object(Bucket=cell.name, Key="scans/slice-2.png")
    cell.client.import_tasks(cell.ls_id, [{"data": {"image": "s3://another-bucket/x.png"}}])
    cell.pull()
    errors = {task.url: task.error or "" for task in cell.tasks() if task.state == "failed"}
    assert errors.keys() == {f"s3://{cell.name}/scans/slice-2.png", "s3://another-bucket/x.png"}
    assert f"{bench.places.s3.url}/{cell.name}/scans/slice-2.png?...: answered with status 404" in str(errors)
    assert "No storage of the project" in errors["s3://another-bucket/x.png"]
    cell.close()


def go_round(cell: Cell) -> None:
    """Images in, masks out, labels in."""
    cell.pull()
    tasks = {cell.file_of(task): task for task in cell.tasks()}
    assert tasks.keys() == set(SHOWN)
    version = cell.predict()
    cell.push(version)
    assert cell.client.project(cell.ls_id).model_version == version
    shown = {file: cell.shown(task) for file, task in tasks.items()}
    for file, prediction in shown.items():
        assert prediction["model_version"] == version
        assert_same(cell.kind, cell.kind.masks(prediction["result"]), cell.drawn(file))
    accepted, edited, untouched = sorted(tasks)
    submit(cell, tasks[accepted].ls_id, shown[accepted]["result"], shown[accepted]["id"])
    own = [cell.kind.region(mask, label, number) for number, (label, mask) in enumerate(cell.drawn(edited, 1).items())]
    submit(cell, tasks[edited].ls_id, own, shown[edited]["id"])
    cell.pull()
    assert_same(cell.kind, cell.label(tasks[accepted]), cell.drawn(accepted))
    assert_same(cell.kind, cell.label(tasks[edited]), cell.drawn(edited, 1))
    assert cell.labels(tasks[untouched]) == []
    assert not compare_labels(cell.pool, cell.project_id, beat=lambda: None)
    for file, unedited in ((accepted, True), (edited, False)):
        (row,) = cell.labels(tasks[file])
        assert (row.shown, row.shown_version, row.unedited) == ("model", version, unedited)


def submit(cell: Cell, task: int, result: list[dict[str, Any]], prediction: int) -> None:
    """What Label Studio's page sends when somebody submits a pre-filled task."""
    cell.client.create_annotation(task, result, lead_time=4.5, parent_prediction=prediction)
