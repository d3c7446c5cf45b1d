"""Manifests of models: written once with the row, chained, canonical, and what verification makes of a change."""

from typing import Any

import pytest
from pool_fixture import add_model as add_bare_model
from pool_fixture import add_project
from registry_fixture import damage, register, small_weights, weights_file
from sqlalchemy import select

from maskloop_learner.model.header import CheckpointError
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Event, Model, Snapshot
from maskloop_learner.pool.store import BlobError
from maskloop_learner.settings import Settings
from maskloop_learner.train.manifests import (
    ModelManifest,
    add_model,
    decode,
    encode,
    keep_weights,
    learning_settings,
    load_model_manifest,
)
from maskloop_learner.train.verification import models_of, repair_manifest, verify_model


@pytest.fixture
def project(pool: Pool) -> int:
    """A project without a model."""
    return add_project(pool)


def row(pool: Pool, model: int) -> Model:
    """A model's row as it is now."""
    with pool.read() as session:
        return session.get_one(Model, model)


def manifest_of(pool: Pool, model: int) -> ModelManifest:
    """A model's manifest."""
    return load_model_manifest(pool.store, str(row(pool, model).manifest_digest))


def wrong(pool: Pool, model: int) -> list[tuple[str, str]]:
    """Part and words of what verification finds broken."""
    return [(found.part, found.what) for found in verify_model(pool, row(pool, model)) if found.broken]


def test_a_manifest_says_all_that_made_the_model(pool: Pool, project: int, settings: Settings) -> None:
    with pool.write() as session:
        session.add(Snapshot(project_id=project, digest=pool.store.put("manifests", b"{}"), label_ids=[]))
    settings.train_steps = 17
    first = register(pool, project, small_weights(1))
    metrics = {"validation": {"Tumor": {"challenger": 0.5}}, "gate": {"outcome": "promote", "slices": []}}
    second = register(pool, project, small_weights(2), settings=settings, snapshot_id=1, metrics=metrics)
    found = manifest_of(pool, second)
    assert found["weights"] == {"digest": row(pool, second).weights_digest, "bytes": len(small_weights(2))}
    assert found["parent"] == {"model": first, "manifest": row(pool, first).manifest_digest}
    assert found["snapshot"] is not None
    assert found["snapshot"]["id"] == 1
    assert (found["seed"], found["config"]["settings"]["train_steps"]) == (0, 17)
    assert (found["made_by"], found["labels"], found["base"]) == ("round 1", ["Tumor"], None)
    assert found["metrics"] == metrics
    assert found["code"].keys() == {"maskloop", "commit", "torch"}
    assert (
        encode(decode(encode(found)))
        == encode(found)
        == pool.store.get("manifests", str(row(pool, second).manifest_digest))
    )
    assert wrong(pool, first) == wrong(pool, second) == []
    with pool.read() as session:
        assert len(session.scalars(select(Event).where(Event.kind == "model.added")).all()) == 2


def test_no_secret_is_in_a_manifest(settings: Settings) -> None:
    settings.database_url, settings.redis_url = "postgresql://me:hidden@db/x", "redis://:hidden@cache"
    found = learning_settings(settings)
    assert "hidden" not in str(found)
    assert {"train_steps", "train_seed", "gate_margin", "validation_share", "backbone", "samples"} <= found.keys()
    assert not {"home", "store_url", "database_url", "redis_url", "public_url", "host", "label_studio"} & found.keys()


def test_weights_that_are_none_become_no_model(pool: Pool, project: int) -> None:
    with pytest.raises(CheckpointError, match="not a Maskloop safetensors file"):
        keep_weights(pool.store, b"weights")
    with pytest.raises(CheckpointError, match="cut short"):
        keep_weights(pool.store, small_weights()[:-3])
    kept = keep_weights(pool.store, small_weights())
    pool.store.delete("weights", kept.digest)
    what: dict[str, Any] = {
        "project_id": project,
        "weights": kept,
        "labels": ["Tumor"],
        "made_by": "x",
        "config": {},
        "metrics": {},
    }
    with pytest.raises(BlobError, match="have left the store"), pool.write() as session:
        add_model(session, pool.store, **what)
    kept = keep_weights(pool.store, small_weights())
    with pytest.raises(ValueError, match="not JSON compliant"), pool.write() as session:
        add_model(session, pool.store, **what | {"metrics": {"dice": float("nan")}})
    with pool.read() as session:
        assert models_of(session, project) == []


def test_an_altered_history_is_noticed(pool: Pool, project: int) -> None:
    """A parent whose past is rewritten, a row that says otherwise, a manifest of other bytes."""
    first, second = register(pool, project, small_weights(1)), register(pool, project, small_weights(2))
    other = manifest_of(pool, first) | {"made_by": "nobody"}
    with pool.write() as session:
        before = session.get_one(Model, first).manifest_digest
        session.get_one(Model, first).manifest_digest = pool.store.put("manifests", encode(other))
    assert [part for part, _ in wrong(pool, second)] == ["history"]
    with pool.write() as session:
        session.get_one(Model, first).manifest_digest = before
        session.get_one(Model, second).metrics = {"later": 1}
    assert wrong(pool, second) == [], "figures may come later"
    with pool.write() as session:
        session.get_one(Model, second).config = {"seed": 1}
    [(part, said)] = wrong(pool, second)
    assert (part, "another configuration" in said) == ("manifest", True)
    digest = str(before)
    path = weights_file(pool, first).parents[2] / "manifests" / digest[:2] / digest
    damage(path, "altered")
    [(part, said)] = wrong(pool, first)
    assert (part, "altered" in said) == ("manifest", True)


@pytest.mark.parametrize("how", ["truncated", "altered", "removed"])
def test_broken_weights_are_noted_and_mended_ones_too(pool: Pool, project: int, how: str) -> None:
    model = register(pool, project, small_weights(1))
    damage(weights_file(pool, model), how)
    [(part, said)] = wrong(pool, model)
    assert part == "weights"
    assert ("missing" if how == "removed" else "altered") in said
    assert row(pool, model).fault == said
    assert wrong(pool, model) == [(part, said)]
    assert pool.store.put("weights", small_weights(1)) == row(pool, model).weights_digest
    assert wrong(pool, model) == []
    assert row(pool, model).fault is None
    with pool.read() as session:
        kinds = session.scalars(select(Event.kind).where(Event.subject == str(model)).order_by(Event.id)).all()
    assert kinds == ["model.added", "model.broken", "model.mended"]


def test_a_model_of_an_earlier_release_gets_its_manifest_once(pool: Pool, project: int) -> None:
    old = add_bare_model(pool, project, small_weights(1))
    [found] = verify_model(pool, row(pool, old))
    assert (found.part, found.broken, "--repair" in found.fix) == ("manifest", False, True)
    digest = repair_manifest(pool, old)
    assert digest == row(pool, old).manifest_digest is not None
    assert manifest_of(pool, old)["reconstructed"]
    assert repair_manifest(pool, old) is None
    assert verify_model(pool, row(pool, old)) == []
    child = register(pool, project, small_weights(2))
    assert wrong(pool, child) == []


def test_a_pruned_champion_is_a_fault(pool: Pool, project: int) -> None:
    model = register(pool, project, small_weights(1))
    with pool.write() as session:
        session.get_one(Model, model).pruned_at = session.get_one(Champion, project).changed_at
    assert [part for part, _ in wrong(pool, model)] == ["weights"]
