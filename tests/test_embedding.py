"""Embeddings: of the image alone, in a space that trainings do not move, beside predictions and before a model."""

import logging
from pathlib import Path

import numpy as np
import pytest
import redis
import torch
from numpy.typing import NDArray
from pool_fixture import add_project, add_task, png_bytes
from sqlalchemy import select
from torch import Tensor
from valkey_fixture import Valkey

from maskloop_backend.sync.work import enqueue_unembedded
from maskloop_learner.model.backbones import BACKBONES, BackboneError, BackboneSpec
from maskloop_learner.model.bases import Bases
from maskloop_learner.model.checkpoint import save_weights
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.model.preprocess import prepare_image
from maskloop_learner.model.shared import Shelf
from maskloop_learner.model.shipped import read_manifest
from maskloop_learner.pool.images import open_image
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Embedding, Image, Model, Prediction, Project, Task
from maskloop_learner.predict.embedder import Embedder, pool_patches
from maskloop_learner.settings import Settings
from maskloop_learner.train.registry import ensure_version, set_champion
from maskloop_queue.embedding import embed
from maskloop_queue.jobs import JOBS, fetch
from maskloop_queue.queues import embedding_line, enqueue_embedding, enqueue_score, gpu_queue
from maskloop_queue.ranking import rank
from maskloop_queue.scoring import score
from maskloop_queue.turns import take_turns
from maskloop_queue.warm import Predictors

NANO = BACKBONES["nano"]
SPACE = f"nano-{read_manifest()['sha256'][:12]}"
CHEAP = {"method": "mean-value", "samples": 1, "of_samples": 2}


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.over(Shelf(None, device=torch.device("cpu")), NANO)


@pytest.fixture
def predictors() -> Predictors:
    return Predictors(device="cpu")


def pictures(count: int) -> list[NDArray[np.uint8]]:
    return [open_image(png_bytes(seed, width=40 + seed, height=30)) for seed in range(count)]


def rows(pool: Pool) -> dict[tuple[str, str], bytes]:
    """(image, space) -> vector."""
    with pool.read() as session:
        return {(row.image_digest, row.space): row.vector for row in session.scalars(select(Embedding))}


def image_of(pool: Pool, task: int) -> str:
    with pool.read() as session:
        return str(session.get_one(Task, task).image_digest)


def test_an_image_is_embedded_alike_alone_and_among_others(embedder: Embedder) -> None:
    """To the bit whatever came before; to rounding in one batch, which float16 does not show."""
    images = pictures(5)
    alone = [embedder.embed(image) for image in images]
    again = [embedder.embed(image) for image in images[::-1]][::-1]
    assert all(np.array_equal(one, other) for one, other in zip(alone, again, strict=True))
    squares = [prepare_image(image, NANO.image_size, NANO.preprocessing) for image in images]
    with torch.inference_mode():
        together = pool_patches(embedder.look(torch.cat(squares))).numpy()
    assert np.abs(together - np.stack(alone)).max() < 1e-6
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    assert together.shape == (5, NANO.clip["embed_dim"])
    assert together.dtype == np.float32
    assert len({each.tobytes() for each in alone}) == 5


def test_a_picture_lies_nearer_to_itself_made_brighter_than_to_others(embedder: Embedder) -> None:
    """Otherwise the space would say nothing of what images show."""
    smooth = [np.repeat(np.repeat(image[:8, :8], 12, 0), 12, 1) for image in pictures(4)]
    vectors = [embedder.embed(image) for image in smooth]
    for number, image in enumerate(smooth):
        brighter = embedder.embed((255 * (image / 255) ** 0.8).astype(np.uint8))
        assert int(np.argmax([brighter @ vector for vector in vectors])) == number


def test_an_image_that_is_not_rgb_is_refused(embedder: Embedder) -> None:
    with pytest.raises(ValueError, match="image must be RGB uint8"):
        embedder.embed(np.zeros((8, 8), np.uint8))


def test_a_published_backbone_embeds_with_its_towers(
    tiny: BackboneSpec, towers: dict[str, Tensor], tmp_path: Path
) -> None:
    """The space is named by their digest; without them it is said how to fetch them."""
    bases = Bases(tmp_path / "backbones")
    with pytest.raises(BackboneError, match="maskloop models fetch"):
        Predictors(device="cpu", bases=bases).embedder(tiny)
    digest = bases.add(tiny, towers, source="test")
    warm = Predictors(device="cpu", bases=bases)
    found = warm.embedder(tiny)
    assert found.space == warm.space(tiny) == f"{tiny.name}-{digest[:12]}"
    assert warm.embedder(tiny, digest).space == found.space
    vector = found.embed(pictures(1)[0])
    assert vector.shape == (tiny.clip["embed_dim"],)
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert len(warm.shelf.held()) == 1


def add_champion(pool: Pool, settings: Settings, project: int, *, seed: int, fence: int = 0) -> str:
    """A champion with weights of its own that ranks by one pass."""
    settings.samples = 2
    digest = pool.store.put("weights", save_weights(MedCLIPSeg(NANO, seed=seed), meta={}))
    with pool.write() as session:
        row = session.get_one(Project, project)
        model = Model(project_id=project, weights_digest=digest, backbone="nano", labels=["Tumor"])
        model.config = {"ranking": CHEAP}
        session.add(model)
        session.flush()
        version = ensure_version(session, row, model, settings)
        set_champion(session, project_id=project, model_id=model.id, version_id=version, fence=fence, by="test")
        return version


def test_predicting_an_image_embeds_it_once(
    pool: Pool, settings: Settings, predictors: Predictors, embedder: Embedder
) -> None:
    """With its rank or its mask, in the shipped towers' space whatever the model has learnt."""
    project = add_project(pool)
    first, second = (image_of(pool, add_task(pool, project, number)) for number in (1, 2))
    version = add_champion(pool, settings, project, seed=6)
    assert rank(pool, predictors, version, first)
    assert list(rows(pool)) == [(first, SPACE)]
    assert score(pool, predictors, version, first)
    assert score(pool, predictors, version, second)
    before = rows(pool)
    assert set(before) == {(first, SPACE), (second, SPACE)}
    wanted = embedder.embed(open_image(pool.store.get("images", second)))
    assert before[second, SPACE] == wanted.astype("<f2").tobytes()
    other = add_champion(pool, settings, project, seed=7, fence=1)
    assert score(pool, predictors, other, first)
    assert rows(pool) == before


def test_what_cannot_be_embedded_is_predicted_all_the_same(
    pool: Pool,
    settings: Settings,
    predictors: Predictors,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    project = add_project(pool)
    image = image_of(pool, add_task(pool, project, 1))
    version = add_champion(pool, settings, project, seed=6)

    def fail(self: Embedder, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise RuntimeError("no memory is left")

    monkeypatch.setattr(Embedder, "embed", fail)
    with caplog.at_level(logging.WARNING):
        assert score(pool, predictors, version, image)
    with pool.read() as session:
        assert session.scalars(select(Prediction)).one().error is None
    assert rows(pool) == {}
    assert "is predicted, and could not be embedded: no memory is left" in caplog.text


@pytest.fixture
def conn(shared_valkey: Valkey) -> redis.Redis:
    return shared_valkey.connect()


def test_images_are_embedded_before_there_is_a_model(
    pool: Pool, settings: Settings, predictors: Predictors, conn: redis.Redis
) -> None:
    """By jobs of their own, each once; what cannot be read is noted, and not asked for again."""
    project = add_project(pool)
    first, second = (image_of(pool, add_task(pool, project, number)) for number in (1, 2))
    broken = pool.store.put("images", png_bytes(9)[:60])
    with pool.write() as session:
        session.add(Image(digest=broken, width=24, height=16, format="PNG", size=60))
        session.flush()
        session.add(Task(project_id=project, ls_id=9, url="/9.png", state="ready", image_digest=broken))
    assert enqueue_unembedded(pool, conn, project, settings) == 3
    assert enqueue_unembedded(pool, conn, project, settings) == 3
    jobs = [fetch(conn, job_id) for job_id in gpu_queue(conn).job_ids]
    assert [job.args for job in jobs if job] == [[image, "nano"] for image in (first, second, broken)]
    assert {job.func for job in jobs if job} == {JOBS["maskloop_queue.jobs.embed_image"]}
    for image in (first, second, broken):
        assert embed(pool, predictors, "nano", image)
        assert not embed(pool, predictors, "nano", image)
    assert rows(pool)[broken, SPACE] == b""
    assert len(rows(pool)[first, SPACE]) == 2 * NANO.clip["embed_dim"]
    assert enqueue_unembedded(pool, conn, project, settings) == 0


def test_a_backbone_that_is_not_there_embeds_nothing(pool: Pool, settings: Settings, conn: redis.Redis) -> None:
    """Rather than a job a minute that fails."""
    project = add_project(pool)
    add_task(pool, project, 1)
    settings.backbone = "clip-vit-b16"
    assert enqueue_unembedded(pool, conn, project, settings) == 0
    assert gpu_queue(conn).job_ids == []


def test_embeddings_take_turns_with_other_projects_predictions(conn: redis.Redis) -> None:
    """A hundred thousand images without a model keep nobody's masks waiting, nor wait for them."""
    for number in range(1, 6):
        enqueue_embedding(conn, 7, f"{number:032x}", "nano")
    for number in range(1, 4):
        enqueue_score(conn, "a", f"{number:032x}")
    assert take_turns(conn, ["a", embedding_line(7)])
    order = [job_id.split("-")[1][0] + job_id[-1] for job_id in gpu_queue(conn).job_ids]
    assert order == ["p1", "p2", "a1", "a2", "p3", "p4", "a3", "p5"]
