"""The places where a project's images may lie: what puts files there and makes their tasks."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelstudio_fixture import LabelStudioServer
from s3_fixture import S3Server

from maskloop_backend.labelstudio.client import LabelStudio


@dataclass(frozen=True)
class Places:
    """The servers that hold images, and the files."""

    label_studio: LabelStudioServer
    s3: S3Server
    images: str
    """Address of the image server."""
    folder: Path
    files: dict[str, bytes]


def _upload(places: Places, client: LabelStudio, project: int, name: str) -> None:
    addresses = client.upload_files(project, list(places.files.items()))
    client.import_tasks(project, [{"data": {"image": address}} for address in addresses])


def _http(places: Places, client: LabelStudio, project: int, name: str) -> None:
    client.import_tasks(project, [{"data": {"image": f"{places.images}/{file}"}} for file in places.files])


def _local_files(places: Places, client: LabelStudio, project: int, name: str) -> None:
    folder = places.label_studio.files / name
    shutil.copytree(places.folder, folder)
    _synced(places, "localfiles", {"project": project, "path": str(folder), "use_blob_urls": True})


def _s3(presign: bool) -> Callable[[Places, LabelStudio, int, str], None]:
    def fill(places: Places, client: LabelStudio, project: int, name: str) -> None:
        places.s3.put(name, {f"scans/{file}": data for file, data in places.files.items()})
        _synced(places, "s3", {"project": project, **places.s3.storage(name, presign=presign)})

    return fill


def _s3_json(places: Places, client: LabelStudio, project: int, name: str) -> None:
    places.s3.put(name, {f"scans/{file}": data for file, data in places.files.items()})
    tasks = {f"tasks/{n}.json": {"data": {"image": f"s3://{name}/scans/{file}"}} for n, file in enumerate(places.files)}
    for key, task in tasks.items():
        places.s3.client.put_object(Bucket=name, Key=key, Body=json.dumps(task).encode())
    _synced(places, "s3", {"project": project, **places.s3.storage(name, prefix="tasks", use_blob_urls=False)})


def _synced(places: Places, kind: str, storage: dict[str, Any]) -> None:
    made = places.label_studio.api("POST", f"/api/storages/{kind}/", json=storage)
    assert made.status_code == 201, made.text
    done = places.label_studio.api("POST", f"/api/storages/{kind}/{made.json()['id']}/sync").raise_for_status().json()
    assert (done["status"], done["last_sync_count"]) == ("completed", len(places.files)), done


STORAGES: dict[str, Callable[[Places, LabelStudio, int, str], None]] = {
    "upload": _upload,
    "local-files": _local_files,
    "http": _http,
    "s3-presign": _s3(True),
    "s3-proxy": _s3(False),
    "s3-json": _s3_json,
}
"""Storage kind -> what puts the three files there and makes their tasks; the name is the cell's own."""
