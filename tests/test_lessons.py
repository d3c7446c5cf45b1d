"""What a round's training is given: images one at a time, named by their task, and where it starts."""

import logging
from typing import Any

import pytest
from pool_fixture import add_label, add_project, add_task
from sqlalchemy import select

from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.checkpoint import save_weights
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Label, Model, Project, Round, Snapshot
from maskloop_learner.pool.snapshot import Manifest, freeze_snapshot, load_manifest
from maskloop_learner.pool.store import Kind
from maskloop_learner.settings import Settings
from maskloop_learner.train.registry import ensure_version, set_champion
from maskloop_queue import challenger, rounds
from maskloop_queue.lessons import Lessons, find_start
from maskloop_queue.triggers import request_training, start_due_round


def freeze(pool: Pool, project: int) -> tuple[int, Manifest]:
    snapshot = freeze_snapshot(pool, project, share=0.2)
    with pool.read() as session:
        return snapshot, load_manifest(pool, session.get_one(Snapshot, snapshot))


@pytest.fixture
def project(pool: Pool, settings: Settings) -> int:
    """With five labelled tasks."""
    settings.train_steps, settings.samples, settings.device, settings.calibration_images = 1, 2, "cpu", 0
    number = add_project(pool)
    for task in range(1, 6):
        add_label(pool, add_task(pool, number, task))
    return number


def crown(pool: Pool, settings: Settings, project_id: int, weights: bytes, *, snapshot: int | None = None) -> None:
    """Make weights the champion."""
    digest = pool.store.put("weights", weights)
    with pool.write() as session:
        project = session.get_one(Project, project_id)
        model = Model(
            project_id=project_id, weights_digest=digest, backbone="nano", labels=["Tumor"], snapshot_id=snapshot
        )
        session.add(model)
        session.flush()
        champion = session.get(Champion, project_id)
        fence = champion.fence if champion else 0
        version = ensure_version(session, project, model, settings)
        set_champion(session, project_id=project_id, model_id=model.id, version_id=version, fence=fence, by="test")


def nano(seed: int = 0) -> bytes:
    return save_weights(MedCLIPSeg(BACKBONES["nano"], seed=seed), meta={})


def test_images_are_read_one_at_a_time_and_named_by_their_task(
    pool: Pool, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, manifest = freeze(pool, project)
    read: list[str] = []
    get = pool.store.get

    def told(kind: Kind, digest: str) -> bytes:
        read.append(kind)
        return get(kind, digest)

    monkeypatch.setattr(pool.store, "get", told)
    lessons = Lessons(pool, manifest)
    assert len(lessons) == 4
    assert read == []
    example = lessons[1]
    assert read == ["images", "masks"]
    item = [item for item in manifest["items"] if item["split"] == "train"][1]
    assert example.name == f"task {item['ls_task']} ({item['name']})"
    assert [each.name for each in lessons[:2]] == [lessons[0].name, example.name]
    item["group"] = "patient 3"
    assert [each.group for each in Lessons(pool, manifest)].index("patient 3") == 1


def test_a_training_starts_from_the_champion_only_if_asked_and_if_it_can(
    pool: Pool, settings: Settings, project: int, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot, manifest = freeze(pool, project)
    settings.train_start = "champion"
    with caplog.at_level(logging.INFO):
        assert find_start(pool, project, manifest, settings) is None
        crown(pool, settings, project, b"not weights")
        assert find_start(pool, project, manifest, settings) is None
        crown(pool, settings, project, nano(), snapshot=snapshot)
        settings.backbone = "pubmedclip"
        assert find_start(pool, project, manifest, settings) is None
    first, second, third = caplog.messages
    assert first.startswith("there is no champion to go on from")
    assert second.startswith("the champion cannot be gone on from (weights of 11 bytes are not a Maskloop")
    assert third.startswith("the champion's backbone is nano: this training starts from the weights of pubmedclip")
    settings.backbone = "nano"
    warm = find_start(pool, project, manifest, settings)
    assert warm is not None
    assert (warm.initial, warm.fresh, warm.replay) == (nano(), frozenset(), 0.5)
    settings.train_start = "base"
    assert find_start(pool, project, manifest, settings) is None


def test_new_is_what_the_champions_snapshot_lacks(pool: Pool, settings: Settings, project: int) -> None:
    """Another image, or another mask of the same."""
    snapshot, _ = freeze(pool, project)
    crown(pool, settings, project, nano(), snapshot=snapshot)
    settings.train_start = "champion"
    for task in (6, 7):
        add_label(pool, add_task(pool, project, task))
    with pool.write() as session:
        edited = session.scalars(select(Label).where(Label.task_id == 1)).one()
        edited.masks = {}
    _, manifest = freeze(pool, project)
    warm = find_start(pool, project, manifest, settings)
    assert warm is not None
    assert warm.fresh is not None
    items = [item for item in manifest["items"] if item["split"] == "train"]
    new = {items[k]["ls_task"] for k in warm.fresh}
    assert new == {item["ls_task"] for item in items if item["ls_task"] in (1, 6, 7)}
    assert new
    crown(pool, settings, project, nano(), snapshot=None)
    unknown = find_start(pool, project, manifest, settings)
    assert unknown is not None
    assert unknown.fresh == frozenset(range(len(items)))


@pytest.mark.parametrize("damaged", [False, True])
def test_a_round_trains_as_the_settings_say(
    pool: Pool, settings: Settings, project: int, damaged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A champion with values that are not numbers is left aside: the round starts from the base weights."""
    weights = bytearray(nano(3))
    if damaged:
        weights[-4:] = b"\xff\xff\xff\xff"
    crown(pool, settings, project, bytes(weights))
    settings.train_start, settings.augmentation, settings.early_stopping = "champion", "ultrasound", 2
    recipes: list[Any] = []
    recipe = challenger._recipe

    def told(*how: Any) -> Any:
        recipes.append(recipe(*how))
        return recipes[-1]

    monkeypatch.setattr(challenger, "_recipe", told)
    request_training(pool, project, cause="cli")
    round_id = start_due_round(pool, project, settings)
    assert round_id is not None
    rounds.run(pool, round_id, settings, lambda progress: None, lambda: False)
    with pool.read() as session:
        assert session.get_one(Round, round_id).state in ("promoted", "rejected")
    assert len(recipes) == 1 + damaged
    assert recipes[0].augmentation.speckle > 0
    assert recipes[0].patience == 2
