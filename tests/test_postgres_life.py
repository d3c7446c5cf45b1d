"""A model's life on a PostgreSQL pool: labels, rounds, shadow, rollback, figures, and what is forgotten in the end."""

import logging
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pool_fixture import add_label, add_model, add_project, add_task
from postgres_fixture import Postgres
from sqlalchemy import func, select, update
from test_garbage import age, blobs
from valkey_fixture import Valkey

from maskloop_backend.sync.work import enqueue_missing, enqueue_shadow, follow_settings
from maskloop_backend.web.figures import pool_figures
from maskloop_learner.pool.garbage import sweep_store
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import Question, unscored
from maskloop_learner.pool.references import find_references
from maskloop_learner.pool.retention import drop_old_predictions
from maskloop_learner.pool.schema import Champion, Label, Model, Prediction, Project, Round, Score, Task, utcnow
from maskloop_learner.settings import Settings
from maskloop_learner.train.pruning import prunable, prune
from maskloop_learner.train.registry import ensure_version, promote, roll_back
from maskloop_learner.train.shadow import report_shadow
from maskloop_queue import rounds
from maskloop_queue.contest import rules_of
from maskloop_queue.scoring import Predictors, score
from maskloop_queue.triggers import request_training, start_due_round

pytestmark = pytest.mark.slow
ELSEWHERE = "other-host 17 0123456789abcdef token"


@pytest.fixture
def settings(tmp_path: Path, postgres_url: str) -> Settings:
    """Short trainings; models that pass wait in shadow, and all pass."""
    return Settings(
        home=tmp_path / "home",
        database_url=postgres_url,
        trigger_quiet=0,
        train_steps=3,
        train_batch=1,
        samples=2,
        device="cpu",
        calibration_images=0,
        gate_mode="shadow",
        gate_margin=0.99,
    )


@pytest.fixture
def pool(settings: Settings) -> Iterator[Pool]:
    """The pool on the server."""
    found = Pool.open(settings)
    yield found
    found.close()


def open_round(pool: Pool, project: int, settings: Settings) -> int:
    """A round on all labels, as a person asks for one."""
    request_training(pool, project, cause="cli")
    opened = start_due_round(pool, project, settings)
    assert opened is not None
    return opened


def look(pool: Pool, round_id: int) -> Round:
    """The round as it is now."""
    with pool.read() as session:
        return session.get_one(Round, round_id)


def train(pool: Pool, project: int, settings: Settings) -> Round:
    """A whole round."""
    opened = open_round(pool, project, settings)
    rounds.run(pool, opened, settings, lambda progress: None, lambda: False)
    return look(pool, opened)


def figures(pool: Pool, settings: Settings) -> dict[tuple[str, ...], float]:
    """Name and label values -> value."""
    metrics = pool_figures(pool, settings)
    return {(each.name, *each.labels.values()): each.value for metric in metrics for each in metric.samples}


def test_a_models_life(pool: Pool, settings: Settings, shared_valkey: Valkey) -> None:
    """Every question that is asked of the pool on the way has the same answer as on SQLite."""
    conn, predictors = shared_valkey.connect(), Predictors.of(settings)
    project = add_project(pool)
    for number in range(1, 6):
        add_label(pool, add_task(pool, project, number))
    for number in (21, 22):
        add_task(pool, project, number)
    assert train(pool, project, settings).state == "promoted"
    first = follow_settings(pool, project, settings)
    assert first is not None
    assert enqueue_missing(pool, conn, project) == 7
    with pool.read() as session:
        asked = unscored(session, project, first, limit=10)
    assert len(asked) == 7
    for question in asked:
        score(pool, predictors, first, *question)
    assert enqueue_missing(pool, conn, project) == 0

    for number in (6, 7):
        add_label(pool, add_task(pool, project, number))
    second = train(pool, project, settings)
    assert (second.state, second.failures) == ("shadow", 0), second.reason
    task = add_task(pool, project, 8)
    add_label(pool, task)
    assert enqueue_shadow(pool, conn, project, settings) == 1
    with pool.read() as session:
        row = session.get_one(Task, task)
        question = Question(str(row.image_digest), row.prompt_digest)
        waits = session.get_one(Champion, project).challenger_id
    assert waits == second.model_id == 2
    with pool.write() as session:
        promoted = promote(session, session.get_one(Project, project), 2, settings, fence=1, by="a person")
    with pool.write() as session:
        roll_back(session, session.get_one(Project, project), settings, by="a person")
    for name in (first, promoted):
        score(pool, predictors, name, *question)
    assert look(pool, second.id).state == "promoted"
    with pool.read() as session:
        champion = session.get_one(Champion, project)
        assert (champion.model_id, champion.version_id, champion.fence, champion.pinned) == (1, first, 3, True)

    found = figures(pool, settings)
    assert found["maskloop_tasks", "7", "ready"] == 10
    assert found["maskloop_labels", "7"] == 8
    assert found["maskloop_rounds", "7", "promoted"] == 2
    assert found["maskloop_champion_fence", "7"] == 3
    assert found["maskloop_predictions", "7", first] == 8
    assert found["maskloop_database_bytes",] > 1e6
    forget(pool, project, settings, first)


def forget(pool: Pool, project: int, settings: Settings, first: str) -> None:
    """What nobody needs any more goes: rows of an old version, blobs without a row, weights of an old model."""
    settings.threshold = 0.4
    assert follow_settings(pool, project, settings) != first
    with pool.write() as session:
        session.execute(update(Prediction).values(created_at=utcnow() - timedelta(days=40)))
        session.execute(update(Label).where(Label.id == 1).values(current=False))
    assert drop_old_predictions(pool, days=30, dry_run=True) == 8
    assert drop_old_predictions(pool, days=30) == 8
    with pool.read() as session:
        assert session.scalar(select(func.count(Prediction.id))) == session.scalar(select(func.count(Score.id))) == 1
    lost = pool.store.put("masks", b"left over")
    add_model(pool, project, b"old weights")
    with pool.read() as session:
        old = [model.id for model in prunable(session, project, keep=0)]
    assert [gone.removed for gone in prune(pool, project, old, by="test")] == [True]
    assert sweep_store(pool).count == 0, "all is too new"
    age(pool)
    swept = sweep_store(pool)
    assert swept.blobs["masks"] >= 1
    assert not pool.store.exists("masks", lost)
    with pool.read() as session:
        wanted = find_references(session, pool.store)
    left = blobs(pool)
    assert left == {(kind, digest) for kind, digests in wanted.items() for digest in digests if (kind, digest) in left}
    assert {("weights", digest) for digest in wanted["weights"]} & left
    assert sweep_store(pool).count == 0


def test_a_shadow_is_compared(pool: Pool, settings: Settings) -> None:
    """On labels that came since, by two models that both drew them."""
    project, predictors = add_project(pool), Predictors.of(settings)
    for number in range(1, 6):
        add_label(pool, add_task(pool, project, number))
    train(pool, project, settings)
    add_label(pool, add_task(pool, project, 6))
    assert train(pool, project, settings).state == "shadow"
    task = add_task(pool, project, 7)
    add_label(pool, task)
    waiting = report_shadow(pool, project, settings, rules_of(settings))
    assert waiting is not None
    assert (waiting.waiting, waiting.decision.images) == (1, 0)
    with pool.write() as session:
        row, image = session.get_one(Project, project), str(session.get_one(Task, task).image_digest)
        prompts = session.get_one(Task, task).prompt_digest
        versions = [ensure_version(session, row, model, settings) for model in session.scalars(select(Model))]
    for version in versions:
        score(pool, predictors, version, image, prompts)
    report = report_shadow(pool, project, settings, rules_of(settings))
    assert report is not None
    assert (report.model_id, report.waiting, report.decision.images) == (2, 0, 1)


def test_a_training_outlasts_an_outage(
    pool: Pool,
    settings: Settings,
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server is killed and comes back two steps later: nothing of the training is lost, and its lease goes on."""
    monkeypatch.setattr("maskloop_queue.reporter.LOOK_EVERY", 0.0)
    settings.train_steps = 6
    project = add_project(pool)
    for number in range(1, 6):
        add_label(pool, add_task(pool, project, number))
    opened = open_round(pool, project, settings)
    ends: list[datetime] = []

    def report(progress: dict[str, Any]) -> None:
        if progress["step"] == 3:
            postgres.stop(signal.SIGKILL)
        elif progress["step"] == 5:
            postgres.start()
        elif progress["step"] in (2, 6):
            held_until = look(pool, opened).held_until
            assert held_until is not None
            ends.append(held_until)

    with caplog.at_level(logging.WARNING, "maskloop_queue.reporter"):
        rounds.run(pool, opened, settings, report, lambda: False)
    assert "the pool cannot be written, the training goes on" in caplog.text
    row = look(pool, opened)
    assert (row.state, row.attempts, row.failures) == ("promoted", 1, 0)
    assert ends[0] < ends[1]


def test_who_has_lost_the_lease_to_another_host_stops(
    pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another connection, as another host would: the round is its, and nothing is published here."""
    monkeypatch.setattr("maskloop_queue.reporter.LOOK_EVERY", 0.0)
    project, other = add_project(pool), Pool.open(settings)
    for number in range(1, 6):
        add_label(pool, add_task(pool, project, number))
    opened, steps = open_round(pool, project, settings), []

    def report(progress: dict[str, Any]) -> None:
        steps.append(progress["step"])
        with other.write() as session:
            row = session.get_one(Round, opened, with_for_update=True)
            row.holder, row.held_until = ELSEWHERE, utcnow() + timedelta(minutes=5)

    rounds.run(pool, opened, settings, report, lambda: False)
    row = look(pool, opened)
    assert steps == [1]
    assert (row.state, row.holder, row.model_id) == ("running", ELSEWHERE, None)
    with pytest.raises(rounds.RoundBusy):
        rounds.run(pool, opened, settings, report, lambda: False)
    other.close()
