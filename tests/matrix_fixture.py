"""A cell of the matrix mask kind x storage kind x token kind: a project of a real Label Studio, served by our code."""

import hashlib
import io
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend_peer import BackendPeer, backend_peer
from drawing import KINDS, Mask, MaskKind, iou
from file_server import file_server
from labelstudio_fixture import LabelStudioServer
from PIL import Image as Pillow
from pool_fixture import add_model
from s3_fixture import S3Server
from sqlalchemy import select

from maskloop_backend.clients import Clients
from maskloop_backend.connecting import connect_project
from maskloop_backend.credentials import load_credentials
from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.sync.pull import Puller
from maskloop_backend.sync.push import Pusher
from maskloop_learner.pool.masks import decode_mask, encode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Label, Model, Prediction, Project, Score, Task, utcnow
from maskloop_learner.settings import Settings
from maskloop_learner.train.registry import ensure_version, set_champion

LABELS = ("Tumor", "Organ")
NUMBERS = itertools.count(1)
ORIENTATION, TURNED = 0x0112, 6
"""The EXIF tag, and its value for an image that is shown a quarter turn to the right."""


def scan(seed: int, width: int, height: int) -> Pillow.Image:
    """A grey picture with a bright body, darker organs and noise, like a slice."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    picture = rng.normal(20, 6, (height, width))
    for size, light in ((0.42, 90), (0.2, 60), (0.1, -50)):
        y, x = height * rng.uniform(0.45, 0.55), width * rng.uniform(0.45, 0.55)
        picture += light * (((rows - y) / (size * height)) ** 2 + ((columns - x) / (size * width)) ** 2 < 1)
    return Pillow.fromarray(picture.clip(0, 255).astype(np.uint8))


def scans() -> dict[str, bytes]:
    """Three files: not square with a blank and an umlaut in its name, colour, and a JPEG turned by its EXIF tag."""
    exif = Pillow.Exif()
    exif[ORIENTATION] = TURNED
    return {
        "schädel 1.png": _encoded(scan(1, 200, 136), "PNG"),
        "slice-2.png": _encoded(scan(2, 128, 160).convert("RGB"), "PNG"),
        "turned-3.jpg": _encoded(scan(3, 150, 110), "JPEG", quality=90, exif=exif),
    }


def _encoded(image: Pillow.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


SHOWN = {"schädel 1.png": (136, 200), "slice-2.png": (160, 128), "turned-3.jpg": (150, 110)}
"""File -> height and width as shown."""


def smooth_mask(seed: int, height: int, width: int) -> Mask:
    """A rounded, slightly wavy blob; another one for every seed."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] + 0.5
    y, x = rows - height * rng.uniform(0.4, 0.6), columns - width * rng.uniform(0.4, 0.6)
    angle = np.arctan2(y, x)
    edge = min(height, width) * rng.uniform(0.24, 0.34) * (1 + 0.12 * np.sin(2 * angle + rng.uniform(0, 6)))
    inside: Mask = np.hypot(y, x) < edge
    return inside


@dataclass(frozen=True)
class Bench:
    """What all cells share: servers, files, and one installation of ours per token kind."""

    label_studio: LabelStudioServer
    s3: S3Server
    images: str
    """Address of the image server."""
    folder: Path
    files: dict[str, bytes]
    peer: BackendPeer
    homes: Path

    def settings(self, token: str) -> Settings:
        """Of the installation that works with a kind of token; both image servers are named."""
        hosts = f"127.0.0.1:{self.s3.port},{self.images.removeprefix('http://')}"
        return Settings(home=self.homes / token, public_url=self.peer.url, image_hosts=hosts)


def _upload(bench: Bench, client: LabelStudio, project: int, name: str) -> None:
    addresses = client.upload_files(project, list(bench.files.items()))
    client.import_tasks(project, [{"data": {"image": address}} for address in addresses])


def _http(bench: Bench, client: LabelStudio, project: int, name: str) -> None:
    client.import_tasks(project, [{"data": {"image": f"{bench.images}/{file}"}} for file in bench.files])


def _local_files(bench: Bench, client: LabelStudio, project: int, name: str) -> None:
    folder = bench.label_studio.files / name
    shutil.copytree(bench.folder, folder)
    _synced(bench, "localfiles", {"project": project, "path": str(folder), "use_blob_urls": True})


def _s3(presign: bool) -> Callable[[Bench, LabelStudio, int, str], None]:
    def fill(bench: Bench, client: LabelStudio, project: int, name: str) -> None:
        bench.s3.put(name, {f"scans/{file}": data for file, data in bench.files.items()})
        _synced(bench, "s3", {"project": project, **bench.s3.storage(name, presign=presign)})

    return fill


def _s3_json(bench: Bench, client: LabelStudio, project: int, name: str) -> None:
    bench.s3.put(name, {f"scans/{file}": data for file, data in bench.files.items()})
    tasks = {f"tasks/{n}.json": {"data": {"image": f"s3://{name}/scans/{file}"}} for n, file in enumerate(bench.files)}
    for key, task in tasks.items():
        bench.s3.client.put_object(Bucket=name, Key=key, Body=json.dumps(task).encode())
    _synced(bench, "s3", {"project": project, **bench.s3.storage(name, prefix="tasks", use_blob_urls=False)})


def _synced(bench: Bench, kind: str, storage: dict[str, Any]) -> None:
    made = bench.label_studio.api("POST", f"/api/storages/{kind}/", json=storage)
    assert made.status_code == 201, made.text
    done = bench.label_studio.api("POST", f"/api/storages/{kind}/{made.json()['id']}/sync").raise_for_status().json()
    assert (done["status"], done["last_sync_count"]) == ("completed", len(bench.files)), done


STORAGES: dict[str, Callable[[Bench, LabelStudio, int, str], None]] = {
    "upload": _upload,
    "local-files": _local_files,
    "http": _http,
    "s3-presign": _s3(True),
    "s3-proxy": _s3(False),
    "s3-json": _s3_json,
}
"""Storage kind -> what puts the three files there and makes their tasks; the name is the cell's own."""


class Cell:
    """A connected project, with the steps that sync and an annotator take."""

    def __init__(self, bench: Bench, mask: str, storage: str, token: str) -> None:
        self.bench, self.kind = bench, KINDS[mask]
        self.settings = bench.settings(token)
        self.pool = Pool.open(self.settings)
        self.name = name = f"{mask}-{storage}-{token}-{next(NUMBERS)}"
        secret = bench.label_studio.pat if token == "pat" else bench.label_studio.token
        with LabelStudio(bench.label_studio.url, secret) as client:
            self.ls_id = client.create_project(name, label_config(self.kind)).id
            STORAGES[storage](bench, client, self.ls_id, name)
        url = bench.label_studio.url
        self.connection = connect_project(
            self.pool, self.settings, url=url, token=secret, ls_id=self.ls_id, prompts={"Tumor": "a tumor"}
        )
        self.clients = Clients(self.settings.home)
        self.client = self.clients.get(url)

    @property
    def project_id(self) -> int:
        """Its id in the pool."""
        with self.pool.read() as session:
            return session.scalars(select(Project.id).where(Project.ls_id == self.ls_id)).one()

    def pull(self) -> None:
        """What sync does to bring tasks, images and labels."""
        puller = Puller(
            pool=self.pool,
            client=self.client,
            settings=self.settings,
            headers_for=self.clients.headers_for,
            beat=lambda: None,
        )
        puller.pull(self.project_id, full=True)
        puller.take_images(self.project_id)

    def tasks(self) -> list[Task]:
        """The project's tasks."""
        with self.pool.read() as session:
            return list(session.scalars(select(Task).where(Task.project_id == self.project_id).order_by(Task.ls_id)))

    def file_of(self, task: Task) -> str:
        """The name of the file whose bytes the task's image is."""
        assert task.state == "ready", task.error
        digests = {hashlib.sha256(data).hexdigest(): name for name, data in self.bench.files.items()}
        assert task.image_digest in digests, "the image is not one of the files, byte for byte"
        return digests[task.image_digest]

    def predict(self) -> str:
        """Put a champion's prediction of every image into the pool; returns the prediction version."""
        project_id = self.project_id
        model_id = add_model(self.pool, project_id)
        with self.pool.write() as session:
            project, model = session.get_one(Project, project_id), session.get_one(Model, model_id)
            version = ensure_version(session, project, model, self.settings)
            set_champion(session, project_id=project_id, model_id=model_id, version_id=version, fence=0, by="test")
        for number, task in enumerate(self.tasks()):
            rows = [self._score(label, mask) for label, mask in self.drawn(self.file_of(task)).items()]
            with self.pool.write() as session:
                prediction = Prediction(
                    version_id=version, image_digest=task.image_digest, uncertainty=0.2 + number / 9
                )
                session.add(prediction)
                session.flush()
                for row in rows:
                    row.prediction_id = prediction.id
                    session.add(row)
        return version

    def _score(self, label: str, mask: Mask) -> Score:
        entropies = ("predictive_entropy", "expected_entropy", "mutual_information", "variance")
        return Score(
            label=label,
            mask_digest=self.pool.store.put("masks", encode_mask(mask)),
            area=int(mask.sum()),
            probability=0.875,
            method="monte-carlo",
            samples=30,
            **dict.fromkeys(entropies, 0.25),
        )

    @staticmethod
    def drawn(file: str, turn: int = 0) -> dict[str, Mask]:
        """Label -> the mask that the model draws on a file; with another turn, what a person makes of it."""
        seed = sorted(SHOWN).index(file) * 10 + turn * 100
        return {label: smooth_mask(seed + number, *SHOWN[file]) for number, label in enumerate(LABELS)}

    def push(self, version: str) -> None:
        """What sync does to bring predictions to Label Studio and have it serve them."""
        pusher = Pusher(pool=self.pool, client=self.client, beat=lambda: None)
        assert pusher.push(self.project_id, version)
        assert pusher.switch(self.project_id, version)

    def shown(self, task: Task) -> dict[str, Any]:
        """The one prediction that Label Studio has for a task."""
        (found,) = self.bench.label_studio.api("GET", "/api/predictions/", params={"task": task.ls_id}).json()
        return dict(found)

    def stored(self) -> list[dict[str, Any]]:
        """The tasks as Label Studio has them stored."""
        params = {"project": self.ls_id, "resolve_uri": "false"}
        return list(self.bench.label_studio.api("GET", "/api/tasks/", params=params).json()["tasks"])

    def make_due(self) -> None:
        """Let the time pass after which failed images are fetched again."""
        with self.pool.write() as session:
            for task in session.scalars(select(Task).where(Task.project_id == self.project_id)):
                assert task.retry_at is not None
                task.retry_at = utcnow()

    def labels(self, task: Task) -> list[Label]:
        """A task's current labels in the pool."""
        with self.pool.read() as session:
            return list(session.scalars(select(Label).where(Label.task_id == task.id, Label.current)))

    def label(self, task: Task) -> dict[str, Mask]:
        """The masks of a task's only label in the pool."""
        (label,) = self.labels(task)
        assert label.error is None
        return {name: decode_mask(self.pool.store.get("masks", digest)) for name, digest in label.masks.items()}

    def close(self) -> None:
        """Remove the project from Label Studio."""
        self.client.delete_project(self.ls_id)
        self.pool.close()


def label_config(kind: MaskKind) -> str:
    """Two labels of a kind on one image."""
    labels = "".join(f'<Label value="{label}"/>' for label in LABELS)
    return (
        f'<View><Image name="image" value="$image"/><{kind.tag} name="tag" toName="image">{labels}</{kind.tag}></View>'
    )


def assert_same(kind: MaskKind, found: Mapping[str, Mask], wanted: Mapping[str, Mask]) -> None:
    """The same labels with the same masks, as exactly as the kind allows."""
    assert found.keys() == wanted.keys()
    for label, mask in wanted.items():
        assert found[label].shape == mask.shape
        assert iou(found[label], mask) >= kind.least_iou, f"{label}: IoU {iou(found[label], mask):.4f}"


@pytest.fixture(scope="module")
def bench(label_studio: LabelStudioServer, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The servers with the three files behind them."""
    folder = tmp_path_factory.mktemp("scans")
    files = scans()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with file_server(folder) as served, backend_peer() as peer:
        url = f"http://127.0.0.1:{served.server_address[1]}"
        homes = tmp_path_factory.mktemp("homes")
        bench = Bench(label_studio, s3, url, folder, files, peer, homes)
        credentials = load_credentials(homes / "pat")
        shutil.copytree(homes / "pat", homes / "legacy")  # one backend answers for both installations
        peer.username, peer.password = credentials.username, credentials.password
        yield bench
        assert set(served.tokens) <= {None}, "Label Studio's token went to the image server"  # type: ignore[attr-defined]
