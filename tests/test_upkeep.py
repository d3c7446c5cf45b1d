"""What `sync` clears away on the side."""

from pathlib import Path

import pytest
from pool_fixture import add_project
from redis import Redis
from sqlalchemy import select

from maskloop_backend.sync.upkeep import Upkeep
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Event, Model, PredictionVersion
from maskloop_learner.settings import Settings


@pytest.mark.parametrize(("keep", "gone"), [(2, [2, 4]), (0, []), (50, [])])
def test_only_the_newest_models_and_the_needed_ones_keep_their_weights(
    pool: Pool, tmp_path: Path, keep: int, gone: list[int]
) -> None:
    """Six models; the first is the champion, the third served before."""
    project = add_project(pool)
    with pool.write() as session:
        for number in range(1, 7):
            digest = pool.store.put("weights", f"weights {number}".encode())
            session.add(Model(id=number, project_id=project, weights_digest=digest, backbone="nano"))
        session.flush()
        session.add(PredictionVersion(id="v-1", project_id=project, model_id=1))
        session.flush()
        session.add(Champion(project_id=project, model_id=1, version_id="v-1", previous_model_id=3))
    upkeep = Upkeep(
        pool=pool,
        settings=Settings(home=tmp_path, keep_models=keep, min_free_mb=0),
        conn=Redis(port=1),
        beat=lambda: None,
    )
    upkeep.step()
    with pool.read() as session:
        models = session.scalars(select(Model).order_by(Model.id)).all()
        events = session.scalars(select(Event).where(Event.kind == "model.pruned").order_by(Event.id)).all()
    assert [model.id for model in models if model.pruned_at] == gone
    assert [model.id for model in models if not pool.store.exists("weights", model.weights_digest)] == gone
    assert [(event.subject, event.data["by"]) for event in events] == [(str(number), "retention") for number in gone]
