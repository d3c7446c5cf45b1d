"""Models in a pool as trainings leave them, with small weights files of the right form, and ways to damage them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from maskloop_learner.model.header import ENTRY, FORMAT
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, Project
from maskloop_learner.settings import Settings
from maskloop_learner.train.manifests import add_model, keep_weights
from maskloop_learner.train.registry import ensure_version, set_champion


def small_weights(seed: int = 0, **meta: str) -> bytes:
    """A weights file that says what it is and holds four numbers, other ones for every seed."""
    data: bytes = save(
        {"head": np.full(4, seed, np.float32)},
        metadata={ENTRY: json.dumps({"format": FORMAT, "backbone": "nano", **meta}, sort_keys=True)},
    )
    return data


def register(
    pool: Pool, project_id: int, weights: bytes, *, settings: Settings | None = None, serve: bool = True, **more: Any
) -> int:
    """A model made by a round on top of the present champion, which it replaces with `serve`; returns its id."""
    settings = settings or Settings()
    kept = keep_weights(pool.store, weights)
    with pool.write() as session:
        champion = session.get(Champion, project_id)
        known = {"labels": ["Tumor"], "made_by": "round 1", "config": {"seed": 0}, "metrics": {}, **more}
        parent = champion.model_id if champion else None
        model = add_model(
            session, pool.store, project_id=project_id, weights=kept, parent_id=parent, settings=settings, **known
        )
        if serve:
            project = session.get_one(Project, project_id)
            version = ensure_version(session, project, model, settings)
            set_champion(
                session,
                project_id=project_id,
                model_id=model.id,
                version_id=version,
                fence=champion.fence if champion else 0,
                by="round 1",
            )
        return model.id


def weights_file(pool: Pool, model_id: int) -> Path:
    """Where a model's weights lie in a store that is a folder."""
    with pool.read() as session:
        digest = session.get_one(Model, model_id).weights_digest
    return Path(pool.store.url.removeprefix("file://")) / "weights" / digest[:2] / digest


def damage(path: Path, how: str) -> None:
    """Truncate, alter or remove a file."""
    data = path.read_bytes()
    if how == "removed":
        path.unlink()
    else:
        middle = len(data) // 2
        altered = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        path.write_bytes(data[:-3] if how == "truncated" else altered)
