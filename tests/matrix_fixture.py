"""A cell of the matrix mask kind x storage kind x token kind: a project of a real Label Studio, served by our code."""

import hashlib
import itertools
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from backend_peer import BackendPeer, backend_peer
from drawing import KINDS, Mask, MaskKind, iou
from file_server import file_server
from labelstudio_fixture import LabelStudioServer
from pool_fixture import add_model
from s3_fixture import S3Server
from scans import SHOWN, scans, smooth_mask
from sqlalchemy import select
from storages import STORAGES, Places

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
PROMPTS = {"Tumor": "a tumor"}
NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Bench:
    """What all cells share: servers, files, and one installation of ours per token kind."""

    places: Places
    peer: BackendPeer
    homes: Path

    def settings(self, token: str) -> Settings:
        """Of the installation that works with a kind of token; both image servers are named."""
        hosts = f"127.0.0.1:{self.places.s3.port},{self.places.images.removeprefix('http://')}"
        return Settings(home=self.homes / token, public_url=self.peer.url, image_hosts=hosts)


class Cell:
    """A connected project, with the steps that sync and an annotator take."""

    def __init__(self, bench: Bench, mask: str, storage: str, token: str, *, config: str | None = None) -> None:
        """`config`: a label config of one's own for that kind of mask."""
        self.places, self.kind = bench.places, KINDS[mask]
        self.settings = bench.settings(token)
        self.pool = Pool.open(self.settings)
        self.name = name = f"{mask}-{storage}-{token}-{next(NUMBERS)}"
        places = bench.places
        secret = places.label_studio.pat if token == "pat" else places.label_studio.token
        with LabelStudio(places.label_studio.url, secret) as client:
            self.ls_id = client.create_project(name, config or label_config(self.kind)).id
            STORAGES[storage](places, client, self.ls_id, name)
        url = places.label_studio.url
        self.connection = connect_project(
            self.pool, self.settings, url=url, token=secret, ls_id=self.ls_id, prompts={} if config else PROMPTS
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
        digests = {hashlib.sha256(data).hexdigest(): name for name, data in self.places.files.items()}
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

    def drawn(self, file: str, turn: int = 0) -> dict[str, Mask]:
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
        (found,) = self.places.label_studio.api("GET", "/api/predictions/", params={"task": task.ls_id}).json()
        return dict(found)

    def stored(self) -> list[dict[str, Any]]:
        """The tasks as Label Studio has them stored."""
        params = {"project": self.ls_id, "resolve_uri": "false"}
        return list(self.places.label_studio.api("GET", "/api/tasks/", params=params).json()["tasks"])

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
        bench = Bench(Places(label_studio, s3, url, folder, files), peer, homes)
        credentials = load_credentials(homes / "pat")
        shutil.copytree(homes / "pat", homes / "legacy")  # one backend answers for both installations
        peer.username, peer.password = credentials.username, credentials.password
        yield bench
        assert set(served.tokens) <= {None}, "Label Studio's token went to the image server"  # type: ignore[attr-defined]
