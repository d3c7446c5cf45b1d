"""Snapshots, triggers, the gate and champions: what is learnt from, when, and what serves."""

from datetime import UTC, datetime

import pytest
from pool_fixture import add_label, add_model, add_project, add_task, png_bytes
from sqlalchemy import select

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Label, Model, Project, Round, Snapshot, TrainRequest
from maskloop_learner.pool.snapshot import NoLabels, freeze_snapshot, load_manifest
from maskloop_learner.predict.version import VersionConfig, prediction_version
from maskloop_learner.settings import Settings
from maskloop_learner.train.registry import (
    ChampionConflict,
    NoPreviousModel,
    ensure_version,
    refresh_version,
    roll_back,
    set_champion,
)
from maskloop_queue.triggers import cron_is_due, new_labels, request_training, start_due_round


def test_snapshot_holds_the_newest_usable_label_of_each_image(pool: Pool) -> None:
    """Skipped and deleted annotations are no labels; of two on one image the newer counts."""
    project = add_project(pool)
    tasks = [add_task(pool, project, n) for n in range(1, 6)]
    kept = [add_label(pool, tasks[0]), add_label(pool, tasks[1])]
    add_label(pool, tasks[2], cancelled=True)
    twin = add_task(pool, project, 50, data=png_bytes(4))
    add_label(pool, tasks[3], minute=1)
    newest = add_label(pool, twin, minute=2)
    with pool.write() as session:
        gone = session.get_one(Label, add_deleted(pool, session, tasks[4]))
        gone.current = True
    snapshot_id = freeze_snapshot(pool, project, share=0.34)
    with pool.read() as session:
        snapshot = session.get_one(Snapshot, snapshot_id)
        manifest = load_manifest(pool, snapshot)
    assert snapshot.label_ids == sorted([*kept, newest])
    assert sorted(item["split"] for item in manifest["items"]) == ["train", "train", "validation"]
    assert {item["image"] for item in manifest["items"] if item["split"] == "validation"} == set(manifest["validation"])


def add_deleted(pool: Pool, session: object, task_id: int) -> int:
    """A version that records a deletion, within the caller's transaction."""
    from sqlalchemy.orm import Session

    if not isinstance(session, Session):
        raise TypeError(f"session must be a Session, got {session!r}")
    row = Label(task_id=task_id, ls_annotation_id=1, deleted=True, ls_updated_at=datetime(2026, 1, 1, tzinfo=UTC))
    session.add(row)
    session.flush()
    return row.id


def test_validation_stays_when_the_next_snapshot_is_frozen(pool: Pool) -> None:
    """Frozen means frozen, also when a label of it is withdrawn meanwhile."""
    project = add_project(pool)
    tasks = [add_task(pool, project, n) for n in range(1, 9)]
    for task in tasks[:5]:
        add_label(pool, task)
    with pool.read() as session:
        first = load_manifest(pool, session.get_one(Snapshot, freeze_snapshot(pool, project, share=0.4)))
    for task in tasks[5:]:
        add_label(pool, task)
    with pool.read() as session:
        second = load_manifest(pool, session.get_one(Snapshot, freeze_snapshot(pool, project, share=0.4)))
    assert len(first["validation"]) == 2
    assert len(second["validation"]) == 3
    assert set(first["validation"]) < set(second["validation"])


def test_nothing_to_learn_from_is_said(pool: Pool, settings: Settings) -> None:
    """A request without labels is refused with the reason, once."""
    project = add_project(pool)
    with pytest.raises(NoLabels, match="submit some"):
        freeze_snapshot(pool, project, share=0.2)
    request_training(pool, project, cause="cli")
    assert start_due_round(pool, project, settings) is None
    with pool.read() as session:
        refused = session.scalars(select(TrainRequest.refused)).one()
    assert refused is not None
    assert "no label to learn from" in refused


def end_round(pool: Pool, round_id: int, state: str) -> None:
    """What the training worker writes at the end."""
    with pool.write() as session:
        session.get_one(Round, round_id).state = state


@pytest.mark.parametrize("ending", ["promoted", "shadow", "rejected", "failed", "cancelled"])
def test_watermark_is_the_last_attempt(pool: Pool, settings: Settings, ending: str) -> None:
    """However a round ends, the same labels do not start another; new ones do."""
    settings.trigger_labels = 3
    project = add_project(pool)
    tasks = [add_task(pool, project, n) for n in range(1, 9)]
    for task in tasks[:2]:
        add_label(pool, task)
    assert start_due_round(pool, project, settings) is None
    add_label(pool, tasks[2])
    first = start_due_round(pool, project, settings)
    assert first is not None
    for task in tasks[3:6]:
        add_label(pool, task)
    assert start_due_round(pool, project, settings) is None, "one training at a time"
    end_round(pool, first, ending)
    with pool.read() as session:
        assert new_labels(session, project) == 3
    second = start_due_round(pool, project, settings)
    assert second is not None
    end_round(pool, second, ending)
    assert start_due_round(pool, project, settings) is None
    assert start_due_round(pool, project, settings) is None


def test_a_person_can_always_train(pool: Pool, settings: Settings) -> None:
    """A request needs no new labels; several at once are answered by one round."""
    settings.trigger_labels = 0
    project = add_project(pool)
    for n in (1, 2):
        add_label(pool, add_task(pool, project, n))
    for _ in range(2):
        request_training(pool, project, cause="button")
        request_training(pool, project, cause="cli")
        started = start_due_round(pool, project, settings)
        assert started is not None
        end_round(pool, started, "rejected")
    with pool.read() as session:
        assert session.scalars(select(Round.cause)).all() == ["button", "button"]
        assert session.scalars(select(TrainRequest.round_id)).all() == [1, 1, 2, 2]


def test_cron_moments() -> None:
    """A moment counts once: after the last round and not in the future."""
    at = datetime(2026, 1, 5, 2, 59, tzinfo=UTC)
    assert not cron_is_due("0 3 * * *", since=at, now=at)
    assert cron_is_due("0 3 * * *", since=at, now=at.replace(hour=3, minute=0))
    assert not cron_is_due("0 3 * * *", since=at.replace(hour=3, minute=0), now=at.replace(hour=23))


def test_cron_needs_new_labels(pool: Pool, settings: Settings) -> None:
    """The schedule alone does not train on what was tried already."""
    settings.trigger_labels, settings.trigger_cron = 0, "* * * * *"
    project = add_project(pool)
    with pool.write() as session:
        session.get_one(Project, project).created_at = datetime(2026, 1, 1, tzinfo=UTC)
    assert start_due_round(pool, project, settings) is None
    add_label(pool, add_task(pool, project, 1))
    add_label(pool, add_task(pool, project, 2))
    started = start_due_round(pool, project, settings)
    assert started is not None
    end_round(pool, started, "promoted")
    with pool.write() as session:
        session.get_one(Round, started).created_at = datetime(2026, 1, 2, tzinfo=UTC)
    assert start_due_round(pool, project, settings) is None


def test_champion_changes_by_fence(pool: Pool, settings: Settings) -> None:
    """A decision about another champion is refused; rollback pins the one before."""
    project_id = add_project(pool)
    models = [add_model(pool, project_id, bytes([n])) for n in range(3)]

    def promote(number: int, fence: int) -> int:
        with pool.write() as session:
            project = session.get_one(Project, project_id)
            model = session.get_one(Model, models[number])
            version = ensure_version(session, project, model, settings)
            return set_champion(
                session, project_id=project_id, model_id=model.id, version_id=version, fence=fence, by="test"
            )

    with pytest.raises(NoPreviousModel), pool.write() as session:
        roll_back(session, session.get_one(Project, project_id), settings, by="test")
    assert promote(0, 0) == 1
    assert promote(1, 1) == 2
    for stale in (0, 1, 3):
        with pytest.raises(ChampionConflict, match=str(stale)):
            promote(2, stale)
    with pool.write() as session:
        roll_back(session, session.get_one(Project, project_id), settings, by="test")
    with pool.read() as session:
        champion = session.get_one(Champion, project_id)
    assert (champion.model_id, champion.previous_model_id, champion.fence, champion.pinned) == (*models[:2], 3, True)


def test_version_follows_everything_that_changes_a_mask(pool: Pool, settings: Settings) -> None:
    """Another threshold or prompt is another version, the old setting is the old version again."""
    config = VersionConfig(
        project=1, weights="w", backbone="nano", prompts={"a": "b"}, threshold=0.5, min_speck_area=1, max_hole_area=1,
        method="m", samples=3,
    )  # fmt: skip
    assert prediction_version(config) == prediction_version(dict(reversed(config.items())))  # type: ignore[arg-type]
    changed = [{**config, key: "x"} for key in config]
    assert len({prediction_version(c) for c in changed} | {prediction_version(config)}) == len(config) + 1  # type: ignore[arg-type]
    project_id = add_project(pool)
    model_id = add_model(pool, project_id)
    seen = []
    with pool.write() as session:
        project = session.get_one(Project, project_id)
        version = ensure_version(session, project, session.get_one(Model, model_id), settings)
        set_champion(session, project_id=project_id, model_id=model_id, version_id=version, fence=0, by="test")
        for threshold in (0.5, 0.4, 0.5):
            settings.threshold = threshold
            seen.append(refresh_version(session, project, settings))
    assert seen[0] == seen[2] == version
    assert seen[1] != version


def test_two_labels_of_one_image_are_not_new_for_ever(pool: Pool, settings: Settings) -> None:
    """A label that a newer one of the same image hides starts no training; the one left after a deletion does."""
    settings.trigger_labels = 2
    project = add_project(pool)
    for n in (1, 2, 3):
        for twin in (10 * n, 10 * n + 1):
            add_label(pool, add_task(pool, project, twin, data=png_bytes(n)), minute=twin)
    first = start_due_round(pool, project, settings)
    assert first is not None
    end_round(pool, first, "promoted")
    with pool.read() as session:
        assert new_labels(session, project) == 0
    assert start_due_round(pool, project, settings) is None
    with pool.write() as session:
        labels = session.scalars(select(Label).order_by(Label.ls_updated_at.desc())).all()
        labels[0].current = False
    with pool.read() as session:
        assert new_labels(session, project) == 1
