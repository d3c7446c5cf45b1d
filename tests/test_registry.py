"""Champions: compare-and-set between real processes, promotion, rollback, pins and shadows."""

import subprocess
import sys
from pathlib import Path

import pytest
from pool_fixture import add_project
from registry_fixture import register, small_weights
from sqlalchemy import select

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Event, Model, Project, Round, Snapshot, utcnow
from maskloop_learner.settings import Settings
from maskloop_learner.train.registry import (
    ChampionConflict,
    ModelUnusable,
    NoPreviousModel,
    former_champions,
    promote,
    release,
    roll_back,
)

ROOT = Path(__file__).parents[1]
RACE = """
import sys, time
from pathlib import Path
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Project
from maskloop_learner.settings import Settings
from maskloop_learner.train.registry import ChampionConflict, promote

settings = Settings(home=Path(sys.argv[1]))
project, model = int(sys.argv[2]), int(sys.argv[3])
pool = Pool.open(settings)
with pool.read() as session:
    fence = session.get_one(Champion, project).fence
print(fence, flush=True)
sys.stdin.readline()
try:
    with pool.write() as session:
        promote(session, session.get_one(Project, project), model, settings, fence=fence, by=f"process {model}")
except ChampionConflict:
    print("lost")
else:
    print("won")
"""


@pytest.fixture
def project(pool: Pool) -> int:
    """A project without a model."""
    return add_project(pool)


def champion_of(pool: Pool, project: int) -> Champion:
    """The row as it is now."""
    with pool.read() as session:
        return session.get_one(Champion, project)


def go(pool: Pool, project: int, model: int, settings: Settings, fence: int) -> str:
    """Promote as a person would."""
    with pool.write() as session:
        row = session.get_one(Project, project)
        return promote(session, row, model, settings, fence=fence, by="a person", reason="to see")


@pytest.mark.slow
def test_of_two_processes_that_promote_at_once_one_wins(pool: Pool, project: int, settings: Settings) -> None:
    """Both have read the same fence; it grows by one, and the loser is told."""
    models = [register(pool, project, small_weights(n)) for n in range(3)]
    fences, results = [], []
    for _ in range(2):
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", RACE, str(settings.home), str(project), str(model)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={
                    "PYTHONPATH": f"{ROOT}/learner",
                    "PATH": "",
                    "MASKLOOP_DATABASE_URL": settings.resolved_database_url,
                },
            )
            for model in models[:2]
        ]
        for racer in racers:
            assert racer.stdout is not None
            fences.append(int(racer.stdout.readline()))
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        results.append(sorted(racer.communicate(timeout=30)[0].strip() for racer in racers))
    assert results == [["lost", "won"]] * 2
    assert fences == [3, 3, 4, 4]
    assert champion_of(pool, project).fence == 5
    with pool.read() as session:
        changes = session.scalars(select(Event).where(Event.kind == "champion.changed").order_by(Event.id)).all()
    assert [change.data["fence"] for change in changes] == [1, 2, 3, 4, 5]


def test_a_promotion_is_pinned_and_released(pool: Pool, project: int, settings: Settings) -> None:
    first, second = register(pool, project, small_weights(1)), register(pool, project, small_weights(2))
    version = go(pool, project, first, settings, 2)
    row = champion_of(pool, project)
    assert (row.model_id, row.previous_model_id, row.version_id) == (first, second, version)
    assert (row.fence, row.pinned) == (3, True)
    with pytest.raises(ChampionConflict, match="decide again"):
        go(pool, project, second, settings, 2)
    with pool.write() as session:
        assert release(session, project, by="a person")
        assert not release(session, project, by="a person")
    row = champion_of(pool, project)
    assert (row.fence, row.pinned) == (3, False), "a training under way has compared with this very champion"
    with pool.read() as session:
        last = session.scalars(select(Event).where(Event.kind == "champion.changed").order_by(Event.id.desc())).first()
    assert last is not None
    assert (last.data["by"], last.data["reason"]) == ("a person", "to see")


def test_what_cannot_serve_is_refused(pool: Pool, project: int, settings: Settings) -> None:
    """Another project's, a pruned, a broken one, and one whose labels are all gone; the champion stays."""
    here = [register(pool, project, small_weights(n)) for n in range(4)]
    elsewhere = register(pool, add_project(pool, ls_id=8), small_weights(9))
    with pool.write() as session:
        session.get_one(Model, here[0]).pruned_at = utcnow()
        session.get_one(Model, here[1]).fault = "its file is short"
        session.get_one(Model, here[2]).labels = ["Cyst"]
    for model, why in (
        (elsewhere, f"has no model {elsewhere}"),
        (99, "has no model 99"),
        (here[0], "was pruned"),
        (here[1], "its file is short"),
        (here[2], "'Cyst'"),
    ):
        with pytest.raises(ModelUnusable, match=why):
            go(pool, project, model, settings, 4)
    assert champion_of(pool, project).fence == 4


def test_a_rollback_goes_to_the_model_before_or_any_that_served(pool: Pool, project: int, settings: Settings) -> None:
    def back(to: int | None = None) -> int:
        with pool.write() as session:
            roll_back(session, session.get_one(Project, project), settings, by="a person", to=to)
        return champion_of(pool, project).model_id

    with pytest.raises(NoPreviousModel, match="project 7 has no earlier model"):
        back()
    models = [register(pool, project, small_weights(n)) for n in range(3)]
    never = register(pool, project, small_weights(8), serve=False)
    with pool.read() as session:
        assert former_champions(session, project) == [models[1], models[0]]
    with pytest.raises(ModelUnusable, match=f"never served .*: {models[1]}, {models[0]}.*models promote {never}"):
        back(never)
    with pytest.raises(ModelUnusable, match="champion already"):
        back(models[2])
    assert [back(models[0]), back(), back()] == [models[0], models[2], models[0]]
    assert champion_of(pool, project).pinned


def test_a_model_in_shadow_goes_with_the_champion_it_waited_beside(
    pool: Pool, project: int, settings: Settings
) -> None:
    """Promoted itself its round says so; when another model is chosen it was not."""
    first = register(pool, project, small_weights(1))
    for number, (chosen, state) in enumerate(((None, "promoted"), (first, "rejected"))):
        shadow = register(pool, project, small_weights(10 + number), serve=False)
        with pool.write() as session:
            session.add(Snapshot(project_id=project, digest="0" * 64, label_ids=[]))
            session.flush()
            session.add(
                Round(project_id=project, snapshot_id=1, cause="labels", state="shadow", model_id=shadow, reason="ok")
            )
            row = session.get_one(Champion, project)
            row.challenger_id, row.challenger_since = shadow, utcnow()
            fence = row.fence
        go(pool, project, chosen or shadow, settings, fence)
        champion = champion_of(pool, project)
        assert (champion.challenger_id, champion.challenger_since) == (None, None)
        with pool.read() as session:
            ended = session.scalars(select(Round).where(Round.model_id == shadow)).one()
        assert ended.state == state
        assert "a person" in str(ended.reason)
