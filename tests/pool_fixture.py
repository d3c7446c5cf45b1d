"""Fixtures: settings in a temporary home, a real pool in it, and ways to fill the pool."""

import io
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from sqlalchemy import make_url

from maskloop_backend.labelstudio.controls import Control, Interface
from maskloop_learner.pool.masks import encode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Image, Label, Model, Project, Task
from maskloop_learner.settings import Settings

TUMOR = Control("brush", "tag", "image", "image", ("Tumor",))
"""The mask tag of `add_project`'s projects."""


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None) -> Settings:
    """Settings whose home is a fresh folder, and whose pool lies in it or in a fresh PostgreSQL database."""
    return Settings(home=tmp_path / "home", database_url=database_url, trigger_quiet=0)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty, migrated SQLite database: migrating it anew for every test takes a third of a second."""
    settings = Settings(home=tmp_path_factory.mktemp("empty"))
    Pool.open(settings).close()
    return database_file(settings)


@pytest.fixture
def pool(settings: Settings, migrated_file: Path) -> Pool:
    """An empty, migrated pool."""
    if settings.database_url is None:
        settings.home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(migrated_file, database_file(settings))
    return Pool.open(settings)


def database_file(settings: Settings) -> Path:
    """Where the SQLite database of these settings lies."""
    return Path(str(make_url(settings.resolved_database_url).database))


def png_bytes(seed: int = 0, *, width: int = 24, height: int = 16) -> bytes:
    """A PNG of noise, another one for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def add_project(pool: Pool, *, ls_id: int = 7, labels: tuple[str, ...] = ("Tumor",)) -> int:
    """A connected project; returns its id in the pool."""
    control = Interface((Control("brush", "tag", "image", "image", labels),)).as_json()
    prompts = {label: label.lower() for label in labels}
    with pool.write() as session:
        project = Project(ls_url="http://127.0.0.1:1", ls_id=ls_id, title="test", control=control, prompts=prompts)
        session.add(project)
        session.flush()
        return project.id


def add_task(pool: Pool, project_id: int, ls_id: int, *, data: bytes | None = None, part: str = "image") -> int:
    """A task whose image is in the store; returns its id in the pool."""
    data = png_bytes(ls_id) if data is None else data
    with Pillow.open(io.BytesIO(data)) as image:
        width, height = image.size
    digest = pool.store.put("images", data)
    with pool.write() as session:
        if session.get(Image, digest) is None:
            session.add(Image(digest=digest, width=width, height=height, format="PNG", size=len(data)))
            session.flush()
        url = f"/data/upload/1/{ls_id}.png"
        task = Task(project_id=project_id, ls_id=ls_id, part=part, url=url, state="ready", image_digest=digest)
        session.add(task)
        session.flush()
        return task.id


def add_label(pool: Pool, task_id: int, *, minute: int = 0, cancelled: bool = False, label: str = "Tumor") -> int:
    """A submitted annotation with a box as mask; returns the label's id in the pool."""
    with pool.read() as session:
        task = session.get_one(Task, task_id)
        image = session.get_one(Image, task.image_digest)
    mask = np.zeros((image.height, image.width), bool)
    mask[2 : image.height // 2, 3 : image.width // 2] = True
    digest = pool.store.put("masks", encode_mask(mask))
    with pool.write() as session:
        row = Label(
            task_id=task_id,
            ls_annotation_id=1000 + task_id,
            masks={} if cancelled else {label: digest},
            cancelled=cancelled,
            ls_updated_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute),
        )
        session.add(row)
        session.flush()
        return row.id


def add_model(pool: Pool, project_id: int, weights: bytes = b"weights") -> int:
    """A model whose weights are in the store; returns its id."""
    digest = pool.store.put("weights", weights)
    with pool.write() as session:
        model = Model(project_id=project_id, weights_digest=digest, backbone="nano", labels=["Tumor"])
        session.add(model)
        session.flush()
        return model.id
