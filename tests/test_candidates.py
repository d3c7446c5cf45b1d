"""The pool's images as candidates: the ranking's order, and nothing that cannot be labelled."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as rules
from hypothesis import strategies as st
from pool_fixture import add_label, add_model, add_project, add_task
from sqlalchemy import update

from maskloop_learner.pool.candidates import load_candidates
from maskloop_learner.pool.embedding import find_space, note_unembeddable, unembedded, write_embedding
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import ranking
from maskloop_learner.pool.retention import drop_stray_embeddings
from maskloop_learner.pool.schema import (
    Batch,
    BatchItem,
    Embedding,
    Image,
    Label,
    Prediction,
    PredictionVersion,
    Rank,
    Score,
    Task,
    utcnow,
)
from maskloop_learner.select.candidates import Candidates
from maskloop_learner.select.choosing import ChoosingError, Options, choose

VERSION = "maskloop-0123456789ab"
PROJECTS = itertools.count(1)


@pytest.fixture
def project(pool: Pool) -> int:
    """A project with a prediction version."""
    number = add_project(pool)
    model = add_model(pool, number)
    with pool.write() as session:
        session.add(PredictionVersion(id=VERSION, project_id=number, model_id=model))
    return number


def digest_of(pool: Pool, task: int) -> str:
    with pool.read() as session:
        return str(session.get_one(Task, task).image_digest)


def place(pool: Pool, task: int, uncertainty: float, **aggregates: float) -> None:
    """Rank a task's image; aggregates: of mutual information, by label."""
    kept = {label: {"mutual_information": {"mean": value, "top_q": value}} for label, value in aggregates.items()}
    with pool.write() as session:
        session.add(
            Rank(
                version_id=VERSION,
                image_digest=digest_of(pool, task),
                uncertainty=uncertainty,
                aggregates=kept,
                method="mean-value",
                samples=1,
            )
        )


def predict(pool: Pool, task: int, uncertainty: float | None, *, error: str | None = None, **areas: int) -> None:
    """Predict a task's image; areas: pixels by label."""
    row = Prediction(version_id=VERSION, image_digest=digest_of(pool, task), uncertainty=uncertainty, error=error)
    with pool.write() as session:
        session.add(row)
        session.flush()
        for label, area in areas.items():
            zero: dict[str, Any] = dict.fromkeys(("expected_entropy", "mutual_information", "variance"), 0.0)
            zero |= {"predictive_entropy": 0.1, "method": "monte-carlo", "samples": 2}
            session.add(Score(prediction_id=row.id, label=label, mask_digest="0" * 64, area=area, **zero))


def load(pool: Pool, project: int, version: str | None = VERSION, **options: Any) -> Candidates:
    with pool.read() as session:
        return load_candidates(session, project, version, **options)


def ranked_ids(pool: Pool, project: int) -> list[int]:
    """Label Studio's ids in the order of the pool's ranking."""
    with pool.read() as session:
        return [row.ls_id for row in ranking(session, project, VERSION)]


def chosen_ids(pool: Pool, candidates: Candidates) -> list[int]:
    """Label Studio's ids in the order of the default strategy, of those that are scored."""
    options = Options(random_share=0, keep_duplicates=True)
    picks = choose(candidates, strategy="uncertainty", size=1000, seed=0, options=options)
    with pool.read() as session:
        return [session.get_one(Task, pick.id).ls_id for pick in picks if pick.score is not None]


@rules(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.3, 0.30000001, 0.8]), st.sampled_from(["rank", "both", "mask", "none"])),
        min_size=1,
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)
def test_the_default_strategy_is_the_pools_ranking(pool: Pool, rows: list[tuple[float, str]], random: Any) -> None:
    """Whether an image is ranked, predicted or both, in whatever order tasks came; ties by Label Studio's id."""
    number = add_project(pool, ls_id=next(PROJECTS))
    model = add_model(pool, number)
    version = f"maskloop-{number}"
    with pool.write() as session:
        session.add(PredictionVersion(id=version, project_id=number, model_id=model))
    ls_ids = random.sample(range(1, 10**6), len(rows))
    for ls_id, (uncertainty, how) in zip(ls_ids, rows, strict=True):
        image = digest_of(pool, add_task(pool, number, ls_id))
        with pool.write() as session:
            known: dict[str, Any] = {"version_id": version, "image_digest": image, "uncertainty": uncertainty}
            if how in ("rank", "both"):
                session.add(Rank(**known, method="mean-value", samples=1))
            if how in ("mask", "both"):
                session.add(Prediction(**known))
    with pool.read() as session:
        wanted = [row.ls_id for row in ranking(session, number, version)]
        candidates = load_candidates(session, number, version)
    assert len(candidates) == len(rows)
    assert chosen_ids(pool, candidates) == wanted


def test_labelled_skipped_failed_and_deleted_tasks_are_no_candidates(pool: Pool, project: int) -> None:
    """A task that is not scored yet is one, with a score that is not known; an annotation that was deleted is none."""
    tasks = {ls_id: add_task(pool, project, ls_id) for ls_id in range(1, 9)}
    for ls_id in (1, 2, 3, 4, 5, 6):
        place(pool, tasks[ls_id], ls_id / 10)
    add_label(pool, tasks[1])
    add_label(pool, tasks[2], cancelled=True)
    withdrawn = add_label(pool, tasks[6])
    predict(pool, tasks[8], None, error="the image is damaged")
    with pool.write() as session:
        session.execute(update(Task).where(Task.id == tasks[3]).values(state="failed"))
        session.execute(update(Task).where(Task.id == tasks[4]).values(deleted_at=utcnow()))
        session.execute(update(Label).where(Label.id == withdrawn).values(deleted=True))
    found = load(pool, project)
    assert found.ids.tolist() == [tasks[5], tasks[6], tasks[7]]
    assert found.scores[:2].tolist() == [0.5, 0.6]
    assert math.isnan(found.scores[2])
    assert chosen_ids(pool, found) == ranked_ids(pool, project) == [6, 5]
    without = load(pool, project, None)
    assert without.ids.tolist() == [tasks[5], tasks[6], tasks[7], tasks[8]]
    assert np.isnan(without.scores).all()
    assert without.shares.shape == (4, 0)


def test_a_task_of_several_images_stands_where_its_most_uncertain_one_does(pool: Pool, project: int) -> None:
    """Once, by the id of its first image; the largest share counts."""
    other = add_task(pool, project, 5, part="image")
    first, second = (add_task(pool, project, 9, data=None, part=part) for part in ("left", "right"))
    with pool.write() as session:
        image = session.get_one(Image, digest_of(pool, other))
        session.add(Image(digest="e" * 64, width=10, height=10, format="PNG", size=1, phash="", thumbnail=""))
        session.flush()
        session.get_one(Task, second).image_digest = "e" * 64
        session.get_one(Task, second).group_key = "patient"
        pixels = image.width * image.height
    place(pool, other, 0.5)
    place(pool, first, 0.2)
    place(pool, second, 0.7)
    predict(pool, other, 0.5, Tumor=pixels // 2)
    predict(pool, first, 0.2, Tumor=pixels // 4)
    predict(pool, second, 0.7, Edema=50, Tumor=0)
    found = load(pool, project)
    assert found.ids.tolist() == [other, first]
    assert found.ties.tolist() == [5, 9]
    assert found.scores.tolist() == [0.5, 0.7]
    assert found.groups.tolist() == [-1, 0]
    assert found.labels == ("Edema", "Tumor")
    assert found.shares[1].tolist() == [0.5, 0.25]
    assert found.shares[0, 1] == 0.5
    assert math.isnan(found.shares[0, 0])
    assert found.phashes == [None, ""]
    assert chosen_ids(pool, found) == ranked_ids(pool, project) == [9, 5]


def test_any_score_that_is_kept_can_be_asked_for(pool: Pool, project: int) -> None:
    """The largest over the labels; unknown where an earlier release kept the mean only."""
    tasks = [add_task(pool, project, ls_id) for ls_id in (1, 2, 3)]
    place(pool, tasks[0], 0.9, Tumor=0.1, Edema=0.3)
    place(pool, tasks[1], 0.1, Tumor=0.4, Edema=0.2)
    predict(pool, tasks[2], 0.5)
    found = load(pool, project, score="mutual_information/top_q")
    assert found.scores[:2].tolist() == [0.3, 0.4]
    assert math.isnan(found.scores[2])
    assert load(pool, project).scores.tolist() == [0.9, 0.1, 0.5]
    for wrong in ("mutual_information/median", "magic/mean", "variance"):
        with pytest.raises(ChoosingError, match=rf"mutual_information\|variance, a slash, and mean\|.*; got '{wrong}'"):
            load(pool, project, score=wrong)


def test_a_score_that_a_single_pass_does_not_know_is_the_masks(pool: Pool, project: int) -> None:
    """The largest over the labels; not known of images without a mask, and refused while no mask is drawn."""
    tasks = [add_task(pool, project, ls_id) for ls_id in (1, 2)]
    for task in tasks:
        place(pool, task, 0.9, Tumor=0.0, Edema=0.0)
    with pytest.raises(ChoosingError, match=r"no mask is drawn yet.*MASKLOOP_CHEAP_RANKING=false"):
        load(pool, project, score="mutual_information/mean")
    predict(pool, tasks[0], 0.9, Tumor=1, Edema=2)
    with pool.write() as session:
        for label, value in (("Tumor", 0.2), ("Edema", 0.1)):
            kept = {"mutual_information": {"mean": value}}
            session.execute(update(Score).where(Score.label == label).values(aggregates=kept))
    found = load(pool, project, score="mutual_information/mean").scores
    assert found[0] == 0.2
    assert math.isnan(found[1])


def test_tasks_of_the_open_batch_can_be_left_out(pool: Pool, project: int) -> None:
    """Those of a closed one are candidates again."""
    tasks = [add_task(pool, project, ls_id) for ls_id in (1, 2, 3)]
    with pool.write() as session:
        for state, task in (("closed", tasks[0]), ("open", tasks[1])):
            batch = Batch(project_id=project, state=state, strategy="uncertainty")
            session.add(batch)
            session.flush()
            session.add(BatchItem(batch_id=batch.id, task_id=task, position=1, slot="uncertain", reason=""))
    assert load(pool, project).ids.tolist() == tasks
    assert load(pool, project, leave_out_open_batch=True).ids.tolist() == [tasks[0], tasks[2]]


def vector(*numbers: float) -> Any:
    found = np.array(numbers, np.float32)
    return found / np.linalg.norm(found)


def test_embeddings_come_with_the_candidates(pool: Pool, project: int) -> None:
    """Of length 1, unknown ones as NaN; from the space in which most of the images are."""
    tasks = [add_task(pool, project, ls_id) for ls_id in (1, 2, 3, 4)]
    add_label(pool, tasks[3])
    images = [digest_of(pool, task) for task in tasks]
    assert load(pool, project).embeddings.shape == (4 - 1, 0)
    for image, each in zip(images[1:], (vector(1, 2, 2), vector(0, 0, 1), vector(3, 4, 0)), strict=True):
        assert write_embedding(pool, image, "nano-abc", each)
    assert not write_embedding(pool, images[1], "nano-abc", vector(1, 2, 2))
    assert write_embedding(pool, images[0], "other-abc", vector(1, 1))
    assert note_unembeddable(pool, images[0], "nano-abc")
    with pool.read() as session:
        assert find_space(session, project) == "nano-abc"
        assert unembedded(session, project, "nano", limit=9) == []
        assert unembedded(session, project, "other", limit=9) == images[1:]
        assert unembedded(session, project, "other", limit=1) == images[1:2]
    found = load(pool, project)
    assert np.isnan(found.embeddings[0]).all()
    assert found.embeddings[1:] == pytest.approx(np.array([[1 / 3, 2 / 3, 2 / 3], [0, 0, 1]]), abs=1e-3)
    assert np.linalg.norm(found.embeddings[1:], axis=1) == pytest.approx([1, 1], abs=1e-6)
    assert found.labelled == pytest.approx(np.array([[0.6, 0.8, 0]]), abs=1e-3)
    assert found.labelled_ids.tolist() == [tasks[3]]
    assert load(pool, project, embeddings=False).embeddings.shape == (3, 0)


def test_an_embedding_that_is_none_is_refused(pool: Pool) -> None:
    for bad in (np.array([1, 1], np.float32), np.array([np.nan, 1], np.float32), np.ones((1, 1), np.float32)):
        with pytest.raises(ValueError, match="must be a finite vector of length 1"):
            write_embedding(pool, "0" * 64, "nano-abc", bad)


def test_embeddings_of_images_that_no_task_shows_go(pool: Pool, project: int) -> None:
    """A deleted task's too, unless another task shows the image."""
    kept, gone, shared = (add_task(pool, project, ls_id) for ls_id in (1, 2, 3))
    images = [digest_of(pool, task) for task in (kept, gone, shared)]
    twin = add_task(pool, project, 4)
    with pool.write() as session:
        session.get_one(Task, twin).image_digest = images[2]
        for task in (gone, shared):
            session.get_one(Task, task).deleted_at = utcnow()
    for image in images:
        write_embedding(pool, image, "nano-abc", vector(1, 1))
    assert drop_stray_embeddings(pool) == 1
    assert drop_stray_embeddings(pool) == 0
    with pool.read() as session:
        assert session.get(Embedding, (images[1], "nano-abc")) is None
        assert session.get(Embedding, (images[2], "nano-abc")) is not None
