"""The real jobs in real workers: a round is trained although its worker is killed, and its model predicts."""

import signal

import psutil
import pytest
from pool_fixture import add_label, add_project, add_task
from sqlalchemy import func, select
from valkey_fixture import wait_until
from worker_fixture import Workers

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, Prediction, Round, Task
from maskloop_learner.pool.snapshot import freeze_snapshot
from maskloop_queue.queues import enqueue_round, enqueue_score, job_progress, live_round_jobs

ENV = {
    "MASKLOOP_TRAIN_STEPS": "12",
    "MASKLOOP_CHECKPOINT_STEPS": "2",
    "MASKLOOP_SAMPLES": "2",
    "MASKLOOP_DEVICE": "cpu",
}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_round_outlives_its_worker_and_its_model_predicts(workers: Workers) -> None:
    conn, pool = workers.conn, Pool.open(workers.valkey.settings)
    project = add_project(pool)
    for number in range(1, 7):
        add_label(pool, add_task(pool, project, number))
    with pool.write() as session:
        row = Round(project_id=project, snapshot_id=freeze_snapshot(pool, project, share=0.3), cause="cli")
        session.add(row)
        session.flush()
        round_id = row.id
    env = ENV | {"MASKLOOP_WORKER_LEASE": "5"}
    assert enqueue_round(conn, round_id, 1)
    first = workers.start("training", **env)
    try:
        wait_until("at work", lambda: (job_progress(conn, round_id) or {}).get("step", 0) >= 3, 90)
    except BaseException:
        print(workers.log)
        raise
    family = psutil.Process(first.pid).children()
    workers.end(first, signal.SIGKILL)
    psutil.wait_procs(family, timeout=5)
    workers.start("training", **env)
    workers.start("gpu", **env)

    def round_state() -> str:
        with pool.read() as session:
            return session.get_one(Round, round_id).state

    workers.wait_clean("trained", lambda: round_state() not in ("queued", "running"), 120)
    print(workers.log)
    assert round_state() == "promoted"
    wait_until("gone", lambda: not live_round_jobs(conn))
    with pool.read() as session:
        assert session.scalar(select(func.count(Model.id))) == 1
        assert session.get_one(Round, round_id).attempts == 2
        version = session.get_one(Champion, project).version_id
        digests = list(session.scalars(select(Task.image_digest)))
    for digest in digests:
        enqueue_score(conn, version, str(digest))

    def scored() -> int:
        with pool.read() as session:
            return session.scalar(select(func.count(Prediction.id)).where(Prediction.uncertainty >= 0)) or 0

    wait_until("scored", lambda: scored() == len(digests), 60)
    pool.close()
