"""Weights that are truncated, altered or gone: refused by digest, and the last champion that is whole serves again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pool_fixture import add_label, add_project, add_task
from registry_fixture import damage, register, small_weights, weights_file
from sqlalchemy import select
from valkey_fixture import Valkey
from web_fixture import add_prediction, serving
from worker_fixture import Workers

from maskloop_backend.doctor import examine
from maskloop_backend.sync.work import enqueue_missing
from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.checkpoint import save_weights
from maskloop_learner.model.start import build_start
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Event, Model, Prediction, Round, Task
from maskloop_learner.settings import Settings
from maskloop_learner.train.fallback import look_after
from maskloop_queue import rounds
from maskloop_queue.jobs import rank_image, score_image
from maskloop_queue.queues import gpu_queue
from maskloop_queue.ranking import ModelBroken
from maskloop_queue.running import Place, enter
from maskloop_queue.scoring import Predictors, score
from maskloop_queue.triggers import request_training, start_due_round


@pytest.fixture
def project(pool: Pool) -> int:
    """A project without a model."""
    return add_project(pool)


def champion_of(pool: Pool, project: int) -> Champion:
    """The row as it is now."""
    with pool.read() as session:
        return session.get_one(Champion, project)


def faults(pool: Pool) -> list[int]:
    """Models that are known to be broken."""
    with pool.read() as session:
        return list(session.scalars(select(Model.id).where(Model.fault.is_not(None)).order_by(Model.id)))


def real_weights(seed: int) -> bytes:
    """A model that predicts."""
    return save_weights(build_start(BACKBONES["nano"], seed=seed, start="random"), meta={"seed": seed})


@pytest.mark.parametrize("how", ["truncated", "altered", "removed"])
def test_the_last_whole_champion_serves_again(pool: Pool, project: int, settings: Settings, how: str) -> None:
    """Not the one before, which is broken too, nor a model that never served; nothing is pinned."""
    models = [register(pool, project, small_weights(n)) for n in range(4)]
    register(pool, project, small_weights(8), serve=False)
    assert look_after(pool, project, settings)
    assert champion_of(pool, project).fence == 4
    for broken in models[2:]:
        damage(weights_file(pool, broken), how)
    assert look_after(pool, project, settings)
    row = champion_of(pool, project)
    assert (row.model_id, row.fence, row.pinned, row.changed_by) == (models[1], 5, False, "verification")
    assert faults(pool) == models[2:]
    assert look_after(pool, project, settings)
    assert champion_of(pool, project).fence == 5
    with pool.read() as session:
        events = session.scalars(select(Event).where(Event.kind == "model.broken").order_by(Event.id)).all()
    assert [event.data["model"] for event in events] == [models[3], models[2]]
    assert all("maskloop models import" in event.data["fix"] for event in events)


def test_without_another_model_the_champion_stays_and_comes_back(pool: Pool, project: int, settings: Settings) -> None:
    """Also when the whole store was away for a while, as an unmounted disk is."""
    first, second = register(pool, project, small_weights(1)), register(pool, project, small_weights(2))
    store = Path(pool.store.url.removeprefix("file://"))
    store.rename(store.with_name("away"))
    assert not look_after(pool, project, settings, thorough=False)
    assert not look_after(pool, project, settings, thorough=False)
    assert champion_of(pool, project).model_id == second
    assert faults(pool) == [first, second]
    store.with_name("away").rename(store)
    assert look_after(pool, project, settings, thorough=False)
    assert champion_of(pool, project).model_id == second
    assert faults(pool) == [first]


def test_nothing_is_read_again_while_nothing_is_known_to_be_wrong(pool: Pool, project: int, settings: Settings) -> None:
    """A quick look finds a file that is gone; an altered one is found by whoever reads it."""
    register(pool, project, small_weights(1))
    model = register(pool, project, small_weights(2))
    damage(weights_file(pool, model), "altered")
    assert look_after(pool, project, settings, thorough=False)
    assert faults(pool) == []
    weights_file(pool, model).unlink()
    assert look_after(pool, project, settings, thorough=False)
    assert faults(pool) == [model]


def test_scoring_refuses_altered_weights_and_asks_no_more(
    pool: Pool, project: int, settings: Settings, valkey: Valkey
) -> None:
    task = add_task(pool, project, 1)
    model = register(pool, project, small_weights(1), settings=settings)
    version = champion_of(pool, project).version_id
    with pool.read() as session:
        digest = str(session.get_one(Task, task).image_digest)
    damage(weights_file(pool, model), "altered")
    predictors = Predictors(device="cpu")
    with pytest.raises(ModelBroken, match=r"altered.*maskloop models verify"):
        score(pool, predictors, version, digest)
    conn = valkey.connect()
    assert enqueue_missing(pool, conn, project) == 1
    look_after(pool, project, settings)
    gpu_queue(conn).empty()  # type: ignore[no-untyped-call]
    assert enqueue_missing(pool, conn, project) == 0
    weights_file(pool, model).unlink()
    with pytest.raises(ModelBroken, match="altered"):
        score(pool, predictors, version, digest)
    said = [f.what for section in examine(settings) for f in section.findings if f.level == "problem"]
    assert any(f"Model {model} cannot be loaded" in what for what in said), said


@pytest.mark.parametrize("job", [score_image, rank_image])
def test_a_job_that_meets_broken_weights_ends(
    pool: Pool, project: int, settings: Settings, job: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """It has let another model serve; jobs of the broken one that are queued still end at once, without reading it."""
    task = add_task(pool, project, 1)
    first, second = (register(pool, project, small_weights(n), settings=settings) for n in (1, 2))
    version = champion_of(pool, project).version_id
    with pool.read() as session:
        digest = str(session.get_one(Task, task).image_digest)
    damage(weights_file(pool, second), "truncated")
    enter(Place(settings))
    try:
        job(version, digest)
        assert champion_of(pool, project).model_id == first
        weights_file(pool, second).unlink()
        job(version, digest)
    finally:
        enter(Place(Settings()))
    assert caplog.text.count("altered: its bytes have another digest") >= 2
    assert faults(pool) == [second]
    assert champion_of(pool, project).fence == 3


@pytest.mark.slow
@pytest.mark.parametrize("how", ["truncated", "removed"])
def test_a_real_worker_lets_the_previous_model_serve(
    pool: Pool, project: int, settings: Settings, workers: Workers, how: str
) -> None:
    """Its jobs end, none is tried for ever, and the images are predicted by the model before."""
    for ls_id in (1, 2, 3):
        add_task(pool, project, ls_id)
    settings.samples, settings.calibration_images = 2, 0
    first = register(pool, project, real_weights(1), settings=settings)
    second = register(pool, project, real_weights(2), settings=settings)
    damage(weights_file(pool, second), how)
    queue = gpu_queue(workers.conn)
    assert enqueue_missing(pool, workers.conn, project) == 3
    home = {"MASKLOOP_DATABASE_URL": settings.resolved_database_url, "MASKLOOP_STORE_URL": settings.resolved_store_url}
    workers.start("gpu", MASKLOOP_SAMPLES="2", MASKLOOP_DEVICE="cpu", **home)
    try:
        workers.wait_idle(queue, timeout=60)
        assert champion_of(pool, project).model_id == first
        assert queue.failed_job_registry.get_job_count(cleanup=False) == 0
        assert enqueue_missing(pool, workers.conn, project) == 3
        workers.wait_idle(queue, timeout=60)
    finally:
        print(workers.log)
    assert workers.log.count("can predict nothing more") == 3
    with pool.read() as session:
        made = session.scalars(select(Prediction)).all()
    assert {row.version_id for row in made} == {champion_of(pool, project).version_id}
    assert [row.error for row in made] == [None] * 3


def test_nobody_waits_for_a_model_that_cannot_be_loaded(
    pool: Pool, project: int, settings: Settings, valkey: Valkey
) -> None:
    """What is predicted is answered; the rest is given up at once, not after the deadline of a minute."""
    tasks = [add_task(pool, project, ls_id) for ls_id in (1, 2)]
    model = register(pool, project, small_weights(1), settings=settings)
    with pool.read() as session:
        digest = str(session.get_one(Task, tasks[0]).image_digest)
    add_prediction(pool, champion_of(pool, project).version_id, digest)
    damage(weights_file(pool, model), "altered")
    look_after(pool, project, settings)
    settings.predict_deadline = 60.0
    asked: dict[str, Any] = {"tasks": [{"id": n, "data": {"image": f"/data/upload/1/{n}.png"}} for n in (1, 2)]}
    with serving(pool, settings) as client:
        reply: httpx.Response = client.post("/predict", json=asked | {"project": "7.1"}, timeout=10)
    first, second = reply.json()["results"]
    assert first["result"]
    assert not second["result"]


@pytest.mark.slow
def test_a_training_is_compared_with_the_champion_that_is_whole(pool: Pool, project: int, settings: Settings) -> None:
    settings.train_steps, settings.samples, settings.device, settings.calibration_images = 1, 2, "cpu", 0
    settings.gate_margin = 0.99
    for n in (1, 2, 3):
        add_label(pool, add_task(pool, project, n))
    first = register(pool, project, real_weights(1), settings=settings)
    second = register(pool, project, real_weights(2), settings=settings)
    request_training(pool, project, cause="cli")
    opened = start_due_round(pool, project, settings)
    assert opened is not None
    shutil.rmtree(weights_file(pool, second).parent)
    rounds.run(pool, opened, settings, lambda progress: None, lambda: False)
    with pool.read() as session:
        ended = session.get_one(Round, opened)
        made = session.get_one(Model, ended.model_id)
    assert made.parent_id == first
    assert ended.failures == 0
