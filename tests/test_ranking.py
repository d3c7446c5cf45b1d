"""Ranks and masks in the pool with a real model: one rank per image, one method per version, masks in rank order."""

import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from pool_fixture import add_label, add_project, add_task, png_bytes
from sqlalchemy import select, text
from valkey_fixture import Valkey

from maskloop_backend.sync.work import enqueue_missing
from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.checkpoint import save_weights
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.pool.database import create_pool_engine, migrate
from maskloop_learner.pool.maps import decode_map
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import Question, ranking, unranked, unscored
from maskloop_learner.pool.schema import Image, Model, Prediction, PredictionVersion, Project, Rank, Score, Task
from maskloop_learner.pool.store import Store
from maskloop_learner.prompts.rules import default_prompts
from maskloop_learner.settings import Settings
from maskloop_learner.train.registry import ensure_version, set_champion
from maskloop_queue.jobs import fetch
from maskloop_queue.queues import gpu_queue
from maskloop_queue.ranking import ScoringError, rank, write_rank
from maskloop_queue.scoring import score
from maskloop_queue.warm import Predictors

NOW = "2026-01-01 00:00:00.000000"
CHEAP = {"method": "mean-value", "samples": 1, "of_samples": 2}


@pytest.fixture(scope="module")
def weights() -> bytes:
    return save_weights(MedCLIPSeg(BACKBONES["nano"], seed=6), meta={})


@pytest.fixture
def predictors() -> Predictors:
    return Predictors(device="cpu")


def add_version(pool: Pool, settings: Settings, project_id: int, weights: bytes, config: dict[str, Any]) -> str:
    """A champion with these weights; returns its prediction version."""
    settings.samples = 2
    digest = pool.store.put("weights", weights)
    with pool.write() as session:
        project = session.get_one(Project, project_id)
        labels = sorted(project.prompts)
        model = Model(project_id=project_id, weights_digest=digest, backbone="nano", labels=labels, config=config)
        session.add(model)
        session.flush()
        version = ensure_version(session, project, model, settings)
        set_champion(session, project_id=project_id, model_id=model.id, version_id=version, fence=0, by="test")
        return version


def images(questions: Sequence[Question]) -> list[str]:
    """The images that are asked of, all without prompts of their own."""
    assert all(question.prompts == "" for question in questions)
    return [question.image for question in questions]


@pytest.fixture
def project_id(pool: Pool) -> int:
    """A project of two labels and three images."""
    project_id = add_project(pool, labels=("Edema", "Tumor"))
    for number in (1, 2, 3):
        add_task(pool, project_id, number)
    return project_id


@pytest.fixture
def apart(pool: Pool, settings: Settings, project_id: int, weights: bytes) -> str:
    """A version that ranks by one pass and draws masks with two samples."""
    return add_version(pool, settings, project_id, weights, {"ranking": CHEAP})


@pytest.fixture
def alike(pool: Pool, settings: Settings, project_id: int, weights: bytes) -> str:
    """A version that ranks as it draws."""
    return add_version(pool, settings, project_id, weights, {})


def digests(pool: Pool) -> list[str]:
    with pool.read() as session:
        return [str(d) for d in session.scalars(select(Task.image_digest).order_by(Task.id))]


def ranks(pool: Pool) -> list[Rank]:
    with pool.read() as session:
        return list(session.scalars(select(Rank).order_by(Rank.id)))


def prediction(pool: Pool) -> tuple[Prediction, list[Score]]:
    """The only one, with its scores."""
    with pool.read() as session:
        return session.scalars(select(Prediction)).one(), list(session.scalars(select(Score).order_by(Score.label)))


def ways(rows: list[Rank] | list[Score]) -> set[tuple[str, int]]:
    return {(row.method, row.samples) for row in rows}


def test_a_rank_comes_first_and_its_prediction_has_its_uncertainty(
    pool: Pool, predictors: Predictors, apart: str
) -> None:
    """The mask takes all samples, the place one pass, and the place stays what it was."""
    image = digests(pool)[0]
    assert rank(pool, predictors, apart, image)
    assert not rank(pool, predictors, apart, image)
    [placed] = ranks(pool)
    assert score(pool, predictors, apart, image)
    assert not score(pool, predictors, apart, image)
    row, scores = prediction(pool)
    assert [r.id for r in ranks(pool)] == [placed.id]
    assert row.uncertainty == placed.uncertainty
    assert 0 < placed.uncertainty <= 1
    assert row.error is None
    assert ways([placed]) == {("mean-value", 1)}
    assert [s.label for s in scores] == ["Edema", "Tumor"]
    assert ways(scores) == {("monte-carlo", 2)}
    assert set(placed.aggregates) == {"Edema", "Tumor"}
    assert placed.uncertainty != round(max(s.predictive_entropy for s in scores), 9)
    assert placed.seconds > 0


def test_a_prediction_without_a_rank_makes_it_in_the_versions_way(
    pool: Pool, predictors: Predictors, apart: str
) -> None:
    """Whichever job comes first, the rows are the same."""
    first, second, third = digests(pool)
    assert score(pool, predictors, apart, first)
    [placed] = ranks(pool)
    row, scores = prediction(pool)
    assert ways([placed]) == {("mean-value", 1)}
    assert row.uncertainty == placed.uncertainty
    assert ways(scores) == {("monte-carlo", 2)}
    assert not rank(pool, predictors, apart, first)
    rank(pool, predictors, apart, second)
    score(pool, predictors, apart, third)
    assert ways(ranks(pool)) == {("mean-value", 1)}
    assert len(ranks(pool)) == 3


def test_a_version_that_ranks_as_it_draws_writes_its_scores_as_the_rank(
    pool: Pool, predictors: Predictors, alike: str
) -> None:
    """One prediction serves both; a rank job of its own finds the same."""
    first, second, _ = digests(pool)
    assert score(pool, predictors, alike, first)
    row, scores = prediction(pool)
    [placed] = ranks(pool)
    assert placed.uncertainty == row.uncertainty == round(max(s.predictive_entropy for s in scores), 9)
    assert placed.aggregates == {s.label: s.aggregates for s in scores}
    assert rank(pool, predictors, alike, second)
    assert ways(ranks(pool)) == ways(scores) == {("monte-carlo", 2)}


def test_a_prediction_keeps_its_maps_unless_it_is_told_not_to(pool: Pool, predictors: Predictors, alike: str) -> None:
    """The map's mean is the prediction's uncertainty, up to the steps of 8 bits."""
    first, second, _ = digests(pool)
    assert score(pool, predictors, alike, first)
    _, scores = prediction(pool)
    for each in scores:
        assert each.map_digest is not None
        entropy = decode_map(pool.store.get("maps", each.map_digest))
        assert entropy.shape == (16, 24)
        assert abs(float(entropy.mean()) - each.predictive_entropy) < 0.02
    assert score(pool, predictors, alike, second, keep_maps=False)
    with pool.read() as session:
        kept = select(Score.map_digest).join(Prediction, Prediction.id == Score.prediction_id)
        assert set(session.scalars(kept.where(Prediction.image_digest == second))) == {None}


def test_an_unreadable_image_has_no_rank_and_a_prediction_that_says_why(
    pool: Pool, project_id: int, predictors: Predictors, apart: str
) -> None:
    broken = pool.store.put("images", png_bytes(9)[:60])
    with pool.write() as session:
        session.add(Image(digest=broken, width=24, height=16, format="PNG", size=60))
        session.flush()
        session.add(Task(project_id=project_id, ls_id=9, url="/9.png", state="ready", image_digest=broken))
    assert not rank(pool, predictors, apart, broken)
    assert score(pool, predictors, apart, broken)
    row, scores = prediction(pool)
    assert row.uncertainty is None
    assert row.error is not None
    assert "damaged or cut short" in row.error
    assert (ranks(pool), scores) == ([], [])
    with pool.read() as session:
        assert broken not in images(unranked(session, project_id, apart, limit=9))
        assert broken not in images(unscored(session, project_id, apart, limit=9))
        assert ranking(session, project_id, apart) == []


def test_an_unknown_version_is_named(pool: Pool, predictors: Predictors, project_id: int) -> None:
    for work in (rank, score):
        with pytest.raises(ScoringError, match="'maskloop-nothing' is not in the pool"):
            work(pool, predictors, "maskloop-nothing", digests(pool)[0])


@pytest.mark.parametrize("work", [rank, score])
def test_two_workers_at_once_write_one_row(
    pool: Pool, settings: Settings, apart: str, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have looked before either has written; the later one finds the row and both leave it whole."""
    image, barrier, outcomes = digests(pool)[0], threading.Barrier(2), []

    class Meeting(Predictors):
        """A worker that has decided to predict, and waits for the other to have decided too."""

        def get(self, *args: Any, **kwargs: Any) -> Any:
            if not self._warm:
                barrier.wait(timeout=60)
            return super().get(*args, **kwargs)

    def one() -> None:
        mine = Pool.open(settings)
        outcomes.append(work(mine, Meeting(device="cpu"), apart, image))
        mine.close()

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(outcomes) == [False, True]
    assert len(ranks(pool)) == 1
    if work is score:
        row, scores = prediction(pool)
        assert row.uncertainty == ranks(pool)[0].uncertainty
        assert len(scores) == 2


def test_a_rank_that_breaks_another_rule_is_an_error(pool: Pool, apart: str) -> None:
    """Only a rank that is there already is taken for the other worker's."""
    from sqlalchemy.exc import IntegrityError

    row = Rank(version_id=apart, image_digest="0" * 64, uncertainty=0.5, method="mean-value", samples=1)
    with pytest.raises(IntegrityError):
        write_rank(pool, row)


def place(pool: Pool, version: str, image: str, uncertainty: float) -> None:
    with pool.write() as session:
        session.add(
            Rank(version_id=version, image_digest=image, uncertainty=uncertainty, method="mean-value", samples=1)
        )


def test_masks_are_drawn_in_the_order_of_the_ranks(pool: Pool, project_id: int, apart: str) -> None:
    """The most uncertain first, those without a rank after them, those that have a label last."""
    add_label(pool, add_task(pool, project_id, 4))
    first, second, third, labelled = digests(pool)
    place(pool, apart, third, 0.9)
    place(pool, apart, second, 0.2)
    place(pool, apart, labelled, 0.99)
    with pool.read() as session:
        assert images(unscored(session, project_id, apart, limit=9)) == [third, second, first, labelled]
        assert images(unscored(session, project_id, apart, limit=2)) == [third, second]
        assert images(unranked(session, project_id, apart, limit=9)) == [first]
        assert [(r.ls_id, r.uncertainty) for r in ranking(session, project_id, apart)] == [(3, 0.9), (2, 0.2)]


def test_the_ranking_counts_images_whose_mask_is_not_drawn_yet(
    pool: Pool, project_id: int, predictors: Predictors, apart: str
) -> None:
    """And keeps one order while masks come: places do not move."""
    for image in digests(pool):
        rank(pool, predictors, apart, image)
    with pool.read() as session:
        before = ranking(session, project_id, apart)
    assert sorted(r.ls_id for r in before) == [1, 2, 3]
    assert [r.uncertainty for r in before] == sorted((r.uncertainty for r in before), reverse=True)
    assert all(set(r.aggregates) == {"Edema", "Tumor"} for r in before)
    score(pool, predictors, apart, digests(pool)[1])
    with pool.read() as session:
        assert ranking(session, project_id, apart) == before
        other = session.get_one(PredictionVersion, apart)
        assert other.config["rank_method"] == "mean-value"


def queued(valkey: Valkey) -> list[tuple[str, str]]:
    """Kind and image of the jobs, in the order of the queue."""
    conn = valkey.connect()
    found = []
    for job_id in gpu_queue(conn).job_ids:
        job = fetch(conn, job_id)
        assert job is not None
        found.append((str(job.func_name).rpartition(".")[2], str(job.args[1])))
    return found


def test_ranks_and_masks_take_turns_in_the_queue(
    shared_valkey: Valkey, pool: Pool, project_id: int, predictors: Predictors, apart: str
) -> None:
    conn = shared_valkey.connect()
    first, second, third = digests(pool)
    place(pool, apart, third, 0.7)
    assert enqueue_missing(pool, conn, project_id) == 3
    wanted = [
        ("rank_image", first),
        ("score_image", third),
        ("rank_image", second),
        ("score_image", first),
        ("score_image", second),
    ]
    assert queued(shared_valkey) == wanted
    assert enqueue_missing(pool, conn, project_id) == 3
    assert queued(shared_valkey) == wanted


def test_a_version_that_ranks_as_it_draws_has_no_rank_jobs(
    shared_valkey: Valkey, pool: Pool, project_id: int, alike: str
) -> None:
    assert enqueue_missing(pool, shared_valkey.connect(), project_id) == 3
    assert queued(shared_valkey) == [("score_image", image) for image in digests(pool)]


def test_predictions_of_the_first_release_still_rank(empty_settings: Settings, weights: bytes) -> None:
    """A database without ranks is migrated; what it has predicted keeps its place, beside new ranks."""
    settings = empty_settings
    engine = create_pool_engine(settings.resolved_database_url)
    migrate(engine, revision="0001")
    version = "maskloop-0123456789ab"
    store = Store(settings.resolved_store_url)
    first, second, third = (store.put("images", png_bytes(number)) for number in (1, 2, 3))
    model = store.put("weights", weights)
    control = {"from_name": "tag", "to_name": "image", "data_key": "scan", "labels": ["Tumor"]}
    config = {"weights": model, "prompts": {"Tumor": "tumor"}, "method": "monte-carlo", "samples": 2}
    config |= {"threshold": 0.5, "min_speck_area": 0, "max_hole_area": 0}
    rows: list[tuple[str, dict[str, Any]]] = [
        (
            "projects",
            {"id": 1, "ls_url": "http://127.0.0.1:1", "ls_id": 7, "title": "t", "label_config": "", "created_at": NOW}
            | {"control": json.dumps(control), "prompts": json.dumps({"Tumor": "tumor [dark]"})},
        ),
        *(
            ("images", {"digest": image, "width": 24, "height": 16, "format": "PNG", "size": 1, "created_at": NOW})
            for image in (first, second, third)
        ),
        *(
            (
                "tasks",
                {"id": n, "project_id": 1, "ls_id": n, "url": "", "data": "{}", "state": "ready", "attempts": 0}
                | {"image_digest": image, "created_at": NOW},
            )
            for n, image in enumerate((first, second, third), 1)
        ),
        (
            "models",
            {"id": 1, "project_id": 1, "weights_digest": model, "backbone": "nano", "labels": '["Tumor"]'}
            | {"config": "{}", "metrics": "{}", "created_at": NOW},
        ),
        (
            "prediction_versions",
            {"id": version, "project_id": 1, "model_id": 1, "config": json.dumps(config), "created_at": NOW},
        ),
        *(
            (
                "predictions",
                # Without their ids, 1 and 2, so that PostgreSQL's sequence counts on from there.
                {"version_id": version, "image_digest": image, "uncertainty": uncertainty}
                | {"seconds": 0, "created_at": NOW},
            )
            for image, uncertainty in ((first, 0.25), (second, 0.75))
        ),
        *(
            (
                "scores",
                {"prediction_id": n, "label": "Tumor", "mask_digest": "0" * 64, "area": 1, "probability": 0.6}
                | {"predictive_entropy": 0.3, "expected_entropy": 0.1, "mutual_information": 0.1, "variance": 0.01}
                | {"method": "monte-carlo", "samples": 2},
            )
            for n in (1, 2)
        ),
    ]
    with engine.connect().execution_options(maskloop_write=True) as connection, connection.begin():
        for table, values in rows:
            names = ", ".join(values)
            marks = ", ".join(f":{name}" for name in values)
            connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)
    engine.dispose()
    project_id = 1
    pool = Pool.open(settings)
    with pool.read() as session:
        assert {task.part for task in session.scalars(select(Task))} == {"scan"}
        kept = session.get_one(Project, project_id).control
        assert default_prompts(["Tumor"], session.get_one(Project, project_id).prompts) == {"Tumor": "tumor [dark]"}
        assert kept["controls"] == [{"kind": "brush", **control}]
        found = ranking(session, project_id, version)
        assert [(r.ls_id, r.uncertainty, r.aggregates) for r in found] == [(2, 0.75, {}), (1, 0.25, {})]
        assert {s.label: s.aggregates for s in session.scalars(select(Score))} == {"Tumor": {}}
        assert images(unranked(session, project_id, version, limit=9)) == [third]
    predictors = Predictors(device="cpu")
    assert not score(pool, predictors, version, first)
    assert score(pool, predictors, version, third)
    with pool.read() as session:
        assert {r.ls_id for r in ranking(session, project_id, version)} == {1, 2, 3}
        assert ways(list(session.scalars(select(Rank)))) == {("monte-carlo", 2)}
    pool.close()
