"""Clean-up of store, predictions and checkpoints: what nothing refers to goes, and nothing else ever does."""

import fcntl
import hashlib
import json
import os
import random
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from pool_fixture import add_label, add_model, add_project, add_task
from sqlalchemy import JSON, func, select

from maskloop_learner.pool.garbage import SLICES, sweep_store
from maskloop_learner.pool.holds import hold_store, is_held
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.references import COLUMNS, JSON_COLUMNS, KINDS, BrokenManifest, find_references
from maskloop_learner.pool.retention import drop_old_predictions
from maskloop_learner.pool.schema import (
    Base,
    Champion,
    Cursor,
    Label,
    Model,
    Prediction,
    PredictionVersion,
    Project,
    Push,
    Rank,
    Round,
    Score,
    Snapshot,
    String,
    Task,
    utcnow,
)
from maskloop_learner.pool.snapshot import freeze_snapshot
from maskloop_learner.pool.store import Store, StoreError
from maskloop_learner.settings import Settings
from maskloop_queue.leftovers import sweep_rounds

OLD = 48 * 3600
NONE = dict.fromkeys(KINDS, 0)


def age(pool: Pool, seconds: float = OLD) -> None:
    """Make every blob of a local store so much older."""
    for path in Path(pool.store.url.removeprefix("file://")).rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime - seconds
            os.utime(path, (then, then))


def blobs(pool: Pool) -> set[tuple[str, str]]:
    """All blobs that are there."""
    return {(kind, digest) for kind in KINDS for digest in pool.store.list_blobs(kind)}


def add_prediction(pool: Pool, version: str, image: str, mask: bytes, *, days: float = 0.0, rank: bool = False) -> int:
    """A prediction with one score, some days old."""
    digest, entropies = pool.store.put("masks", mask), pool.store.put("maps", b"map of " + mask)
    with pool.write() as session:
        at = utcnow() - timedelta(days=days)
        row = Prediction(version_id=version, image_digest=image, uncertainty=0.5, created_at=at)
        session.add(row)
        session.flush()
        figures: dict[str, Any] = dict.fromkeys(
            ("predictive_entropy", "expected_entropy", "mutual_information", "variance"), 0.1
        )
        score = Score(prediction_id=row.id, label="Tumor", mask_digest=digest, method="m", samples=1, **figures)
        score.map_digest = entropies
        session.add(score)
        if rank:
            place = {"version_id": version, "image_digest": image, "created_at": at}
            session.add(Rank(**place, uncertainty=0.5, method="m", samples=1))
        return row.id


def digest_of(data: bytes) -> str:
    """The digest of a blob."""
    return hashlib.sha256(data).hexdigest()


def add_version(pool: Pool, project: int, name: str, model: int) -> str:
    """A prediction version of a model."""
    with pool.write() as session:
        session.add(PredictionVersion(id=name, project_id=project, model_id=model))
    return name


def image_of(pool: Pool, task: int) -> str:
    """The digest of a task's image."""
    with pool.read() as session:
        return str(session.get_one(Task, task).image_digest)


def test_every_column_with_digests_is_considered() -> None:
    """A column that is added to the schema is named in `references`, or is said here to name no blob."""
    known = {(column.class_.__tablename__, column.key) for column in [*COLUMNS, *JSON_COLUMNS]}
    others = {
        # Of prompts, rules and settings: 16 digits, no blobs.
        ("projects", "sheet_digest"),
        ("tasks", "prompt_digest"),
        ("predictions", "prompt_digest"),
        ("ranks", "prompt_digest"),
        ("prompt_sets", "digest"),
    }
    found = set()
    for name, table in Base.metadata.tables.items():
        for column in table.columns:
            digest = "digest" in column.name or "mask" in column.name or "blob" in column.name
            long = isinstance(column.type, String) and column.type.length == 64
            if digest or long:
                found.add((name, column.name))
    assert found == known | others
    assert all(isinstance(attribute.type, JSON) for attribute in JSON_COLUMNS)


def test_what_nothing_refers_to_goes_and_all_else_stays(pool: Pool) -> None:
    """Images, masks of labels and predictions, weights and manifests; whatever a manifest names stays with it."""
    project = add_project(pool)
    tasks = [add_task(pool, project, number) for number in (1, 2, 3)]
    for task in tasks:
        add_label(pool, task)
    model = add_model(pool, project)
    add_prediction(pool, add_version(pool, project, "v1", model), image_of(pool, tasks[0]), b"a mask")
    merged = pool.store.put("masks", b"merged of several annotators")
    item = {"image": image_of(pool, tasks[0]), "split": "train", "masks": {"Tumor": merged}}
    inner = {"items": [item], "validation": []}
    manifest = pool.store.put("manifests", json.dumps(inner).encode())
    with pool.write() as session:
        session.add(Snapshot(project_id=project, digest=manifest))
    freeze_snapshot(pool, project, share=0.2)
    kept = blobs(pool)
    lost = {(kind, pool.store.put(kind, f"nothing refers to {kind}".encode())) for kind in KINDS}
    assert sweep_store(pool).blobs == NONE, "all is too new"
    age(pool)
    counted = sweep_store(pool, dry_run=True)
    assert blobs(pool) == kept | lost
    swept = sweep_store(pool)
    assert swept == counted
    assert swept.blobs == dict.fromkeys(KINDS, 1)
    assert swept.bytes == sum(len(f"nothing refers to {kind}") for kind in KINDS)
    assert blobs(pool) == kept
    assert sweep_store(pool).count == 0


def test_weights_go_when_their_model_is_pruned(pool: Pool) -> None:
    """The model's row and figures stay; weights that another model shares stay with it."""
    project = add_project(pool)
    first, _, third = (add_model(pool, project, data) for data in (b"one", b"two", b"two"))
    named = json.dumps({"weights": digest_of(b"one")}).encode()
    manifest = pool.store.put("manifests", named)
    age(pool)
    with pool.write() as session:
        session.get_one(Model, first).manifest_digest = manifest
        for number in (first, third):
            session.get_one(Model, number).pruned_at = utcnow()
    assert sweep_store(pool).blobs == NONE | {"weights": 1}
    assert [pool.store.get("weights", digest) for digest in pool.store.list_blobs("weights")] == [b"two"]
    assert pool.store.get("manifests", manifest) == named


def test_a_blob_that_is_put_again_counts_as_new(pool: Pool) -> None:
    """A worker writes the mask, and its row a moment later: a clean-up in between takes nothing away."""
    digest = pool.store.put("masks", b"the same mask as long ago")
    age(pool)
    assert pool.store.put("masks", b"the same mask as long ago") == digest
    assert sweep_store(pool).blobs == NONE
    assert pool.store.exists("masks", digest)


def test_a_blob_that_is_put_while_it_is_removed_stays(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one moment between the look at its age and its removal."""
    digest = pool.store.put("masks", b"mask")
    age(pool)
    rename = os.rename

    def put_first(source: str, target: str) -> None:
        pool.store.put("masks", b"mask")
        rename(source, target)

    monkeypatch.setattr(os, "rename", put_first)
    assert not pool.store.discard("masks", digest, grace=timedelta(hours=1))
    assert pool.store.get("masks", digest) == b"mask"
    assert [path.name for path in Path(pool.store.url.removeprefix("file://")).rglob("*") if path.is_file()] == [digest]


def test_nothing_goes_when_a_manifest_cannot_be_read(pool: Pool) -> None:
    """What it refers to is not known, so nothing is known to be unreferenced."""
    project = add_project(pool)
    manifest = pool.store.put("manifests", b'{"items": []}')
    pool.store.put("masks", b"left over")
    with pool.write() as session:
        session.add(Snapshot(project_id=project, digest=manifest))
    next(Path(pool.store.url.removeprefix("file://")).rglob(manifest)).write_bytes(b"altered")
    age(pool)
    before = blobs(pool)
    with pytest.raises(BrokenManifest, match=f"{manifest} cannot be read"):
        sweep_store(pool)
    assert blobs(pool) == before


def test_nothing_goes_while_a_backup_is_made(pool: Pool) -> None:
    """The hold ends with the backup, or a while after it was killed."""
    pool.store.put("masks", b"left over")
    age(pool)
    with hold_store(pool, "backup") as renew:
        renew()
        assert is_held(pool)
        swept = sweep_store(pool)
        assert (swept.count, swept.held) == (0, True)
    assert not is_held(pool)
    with pool.write() as session:
        session.add(Cursor(name="hold:backup", position=int(time.time()) - 1))
    assert not is_held(pool), "its process was killed long ago"
    assert sweep_store(pool).count == 1


def test_a_store_that_is_no_folder_is_cleaned_too(settings: Settings) -> None:
    """An fsspec URL, with the times that it gives."""
    settings.store_url = f"memory://maskloop-garbage-{os.getpid()}"
    pool = Pool.open(settings)
    project = add_project(pool)
    add_task(pool, project, 1)
    lost = pool.store.put("masks", b"left over")
    assert sweep_store(pool).blobs == NONE
    assert sweep_store(pool, grace=timedelta(0)).blobs == NONE | {"masks": 1}
    assert not pool.store.exists("masks", lost)
    assert len(list(pool.store.list_blobs("images"))) == 1


@profile(deadline=None, max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_random_pools_lose_nothing_that_is_referenced(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """After each clean-up every reference has its blob, and no old blob is without one."""
    pool = Pool.open(Settings(home=tmp_path_factory.mktemp("random")))
    chance = random.Random(seed)
    project = add_project(pool)
    model = add_model(pool, project, chance.randbytes(8))
    version = add_version(pool, project, "v", model)
    tasks = [add_task(pool, project, number) for number in range(chance.randint(1, 6))]
    steps: list[Callable[[], object]] = [
        lambda: pool.store.put(chance.choice(KINDS), chance.randbytes(4)),
        lambda: age(pool, chance.choice([3600, OLD])),
        lambda: sweep_store(pool, prefix=chance.choice(["", *SLICES])),
        lambda: add_model(pool, project, bytes([chance.randint(0, 3)])),
        lambda: prune_one(pool),
        lambda: drop_old_predictions(pool, days=1),
    ]
    labelled = [task for task in tasks if chance.random() < 0.5]
    for task in labelled:
        add_label(pool, task)
    for task in tasks:
        if chance.random() < 0.7:
            add_prediction(pool, version, image_of(pool, task), chance.randbytes(4), days=chance.choice([0, 3]))
    if labelled:
        freeze_snapshot(pool, project, share=0.2)
    for _ in range(8):
        chance.choice(steps)()
        with pool.read() as session:
            rows = find_references(session, pool.store)
        strict = {("images", image_of(pool, task)) for task in tasks}
        strict |= {("weights", digest) for digest in rows["weights"] if pool.store.exists("weights", digest)}
        assert strict <= blobs(pool)
        check_rows(pool)
    age(pool)
    sweep_store(pool)
    with pool.read() as session:
        rows = find_references(session, pool.store)
    assert all(digest in rows[kind] for kind, digest in blobs(pool))  # type: ignore[index]
    check_rows(pool)
    pool.close()


def prune_one(pool: Pool) -> None:
    """Prune the newest model that is not pruned."""
    with pool.write() as session:
        model = session.scalar(select(Model).where(Model.pruned_at.is_(None)).order_by(Model.id.desc()).limit(1))
        if model is not None:
            model.pruned_at = utcnow()


def check_rows(pool: Pool) -> None:
    """Every blob that a row names is there; said without `find_references`."""
    with pool.read() as session:
        for digest, entropies in session.execute(select(Score.mask_digest, Score.map_digest)):
            pool.store.get("masks", digest)
            pool.store.get("maps", str(entropies))
        for masks in session.scalars(select(Label.masks)):
            for digest in masks.values():
                pool.store.get("masks", digest)
        for digest in session.scalars(select(Model.weights_digest).where(Model.pruned_at.is_(None))):
            pool.store.get("weights", digest)
        for digest in session.scalars(select(Snapshot.digest)):
            for item in json.loads(pool.store.get("manifests", digest))["items"]:
                pool.store.get("images", item["image"])
                for mask in item["masks"].values():
                    pool.store.get("masks", mask)


def test_old_predictions_that_nobody_needs_are_forgotten(pool: Pool) -> None:
    """Of old versions; not those that are served, in shadow, in Label Studio, or that an annotator was shown."""
    project = add_project(pool)
    tasks = [add_task(pool, project, number) for number in range(1, 5)]
    images = [image_of(pool, task) for task in tasks]
    models = {name: add_model(pool, project, name.encode()) for name in ("old", "before", "champion", "shadow")}
    for name, model in models.items():
        add_version(pool, project, name, model)
        for number, image in enumerate(images):
            add_prediction(pool, name, image, f"{name} {number}".encode(), days=100, rank=True)
    add_version(pool, project, "settings of last year", models["champion"])
    add_prediction(pool, "settings of last year", images[0], b"x", days=100)
    add_version(pool, project, "young", models["old"])
    add_prediction(pool, "young", images[0], b"y", days=80)
    shown = add_label(pool, tasks[1])
    with pool.write() as session:
        champion = {"model_id": models["champion"], "version_id": "champion", "previous_model_id": models["before"]}
        session.add(Champion(project_id=project, challenger_id=models["shadow"], **champion))
        session.get_one(Project, project).served_version = "champion"
        for number, (task, gone) in enumerate([(tasks[0], None), (tasks[1], utcnow()), (tasks[2], utcnow())]):
            key = {"ls_prediction_id": 500 + number, "project_id": project}
            session.add(Push(**key, task_id=task, version_id="old", gone_at=gone))
        session.get_one(Label, shown).parent_prediction = 501
    assert drop_old_predictions(pool, days=0) == 0
    assert drop_old_predictions(pool, days=90, dry_run=True) == 5
    assert drop_old_predictions(pool, days=90) == 5, "two predictions and two ranks of old, one of other settings"
    with pool.read() as session:
        left = select(Prediction.version_id, func.count()).group_by(Prediction.version_id)
        assert {row[0]: row[1] for row in session.execute(left)} == {
            "old": 2,
            "before": 4,
            "champion": 4,
            "shadow": 4,
            "young": 1,
        }
        kept = session.scalars(select(Prediction.image_digest).where(Prediction.version_id == "old")).all()
        assert set(kept) == set(images[:2])
        assert session.scalar(select(func.count(Score.id))) == 15
        assert session.scalar(select(func.count(Rank.id))) == 14
    assert drop_old_predictions(pool, days=90) == 0
    age(pool)
    assert sweep_store(pool).blobs == NONE | {"masks": 3, "maps": 3}


def test_checkpoints_go_with_their_rounds(pool: Pool, settings: Settings) -> None:
    """Those of ended rounds and of none; not one that a process holds, nor one that is to go on."""
    project = add_project(pool)
    add_label(pool, add_task(pool, project, 1))
    snapshot = freeze_snapshot(pool, project, share=0.2)
    with pool.write() as session:
        for state in ("promoted", "failed", "running"):
            session.add(Round(project_id=project, snapshot_id=snapshot, cause="cli", state=state))
    folders = [settings.home / "training" / f"round-{number}" for number in (1, 2, 3, 99)]
    for folder in folders:
        folder.mkdir(parents=True)
        for name in ("lock", "checkpoint.pt", ".checkpoint.pt.abc"):
            (folder / name).write_bytes(b"x")
    with open(folders[1] / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sweep_rounds(pool, settings.home, dry_run=True) == 3
        assert sweep_rounds(pool, settings.home) == 3
    assert [folder.exists() for folder in folders] == [False, True, True, False]
    assert sorted(path.name for path in folders[2].iterdir()) == ["checkpoint.pt", "lock"]
    assert sweep_rounds(pool, settings.home) == 1


def test_sizes_of_missing_blobs_are_refused(tmp_path: Path) -> None:
    """By name."""
    store = Store((tmp_path / "store").as_uri())
    digest = store.put("masks", b"four")
    assert store.size("masks", digest) == 4
    with pytest.raises(StoreError, match=r"masks blob 0{64} is missing"):
        store.size("masks", "0" * 64)
    assert not store.discard("masks", "0" * 64, grace=timedelta(0))
    assert not store.is_older("masks", "0" * 64, timedelta(0))
