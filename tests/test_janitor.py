"""The clean-up: nothing that a dead worker held is lost, nothing is enqueued twice."""

import threading
import time

import pytest
from rq import Queue, Retry
from rq.executions import Execution
from rq.job import JobStatus
from valkey_fixture import Valkey, wait_until

from maskloop_queue import janitor
from maskloop_queue.janitor import clean
from maskloop_queue.jobs import MaskloopJob, fetch
from maskloop_queue.queues import (
    RETRIES,
    enqueue_round,
    enqueue_score,
    gpu_queue,
    live_round_jobs,
    pending_jobs,
    score_job_id,
    training_queue,
)

DIGEST = "ab" * 32
JOB = score_job_id("v1", DIGEST)


def start_and_die(queue: Queue, job_id: str) -> None:
    """What a worker leaves that took a job, started it and was killed when its lease had just run out."""
    conn = queue.connection
    assert conn.lmove(queue.key, queue.intermediate_queue_key) == job_id.encode()
    job = fetch(conn, job_id)
    assert job is not None
    with conn.pipeline() as pipeline:
        Execution.create(job, 1, pipeline, worker_name="dead")
        job.prepare_for_execution("dead", pipeline)
        pipeline.lrem(queue.intermediate_queue_key, 1, job_id)
        pipeline.execute()
    registry = queue.started_job_registry
    for name, execution_id in registry.get_job_and_execution_ids(cleanup=False):
        conn.zadd(registry.key, {f"{name}:{execution_id}": time.time() - 1})


def test_abandoned_job_goes_back_a_few_times_and_then_fails_clearly(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    queue = gpu_queue(conn)
    enqueue_score(conn, "v1", DIGEST)
    for _ in range(RETRIES):
        start_and_die(queue, JOB)
        clean(conn)
        assert queue.job_ids == [JOB]
    start_and_die(queue, JOB)
    clean(conn)
    assert queue.job_ids == []
    job = fetch(conn, JOB)
    assert job is not None
    assert job.get_status() == JobStatus.FAILED
    result = job.latest_result()
    assert result is not None
    assert "AbandonedJobError" in str(result.exc_string)
    assert 0 < conn.ttl(f"maskloop:job:{JOB}") <= 60


def test_a_round_goes_on_before_the_others(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    enqueue_round(conn, 1, 1)
    enqueue_round(conn, 2, 1)
    start_and_die(training_queue(conn), "round-1-1")
    assert live_round_jobs(conn) == {1, 2}
    clean(conn)
    assert training_queue(conn).job_ids == ["round-1-1", "round-2-1"]
    assert live_round_jobs(conn) == {1, 2}


def test_cleaning_by_many_at_once_enqueues_a_job_once(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    queue = gpu_queue(conn)
    for trial in range(10):
        job_id = score_job_id("v1", f"{trial:064x}"[::-1])
        enqueue_score(conn, "v1", f"{trial:064x}"[::-1])
        start_and_die(queue, job_id)
        at_once = threading.Barrier(6)

        def clean_at_once(at_once: threading.Barrier = at_once) -> None:
            mine = shared_valkey.connect()
            mine.ping()
            at_once.wait()
            clean(mine)

        threads = [threading.Thread(target=clean_at_once) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        clean(conn)
        assert queue.job_ids == [job_id]
        conn.flushall()


def test_job_taken_and_never_started_goes_back_after_a_grace(
    shared_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn = shared_valkey.connect()
    queue = gpu_queue(conn)
    enqueue_score(conn, "v1", DIGEST)
    conn.lmove(queue.key, queue.intermediate_queue_key)
    clean(conn)
    clean(conn)
    assert queue.job_ids == []
    monkeypatch.setattr(janitor, "TAKEN_GRACE", 0.2)
    time.sleep(0.3)
    clean(conn)
    assert queue.job_ids == [JOB]
    assert conn.llen(queue.intermediate_queue_key) == 0
    # Taken a second time it has its full grace again.
    clean(conn)
    conn.lmove(queue.key, queue.intermediate_queue_key)
    clean(conn)
    assert queue.job_ids == []


def test_names_without_a_job_are_forgotten(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    queue = gpu_queue(conn)
    conn.rpush(queue.intermediate_queue_key, "gone")
    conn.sadd("maskloop:workers:gpu", "maskloop:worker:gone")
    conn.sadd("maskloop:workers", "maskloop:worker:gone")
    assert pending_jobs(conn)["gpu"]["workers"] == 1
    clean(conn)
    assert conn.llen(queue.intermediate_queue_key) == 0
    assert pending_jobs(conn)["gpu"]["workers"] == 0
    assert conn.smembers("maskloop:workers") == set()


def test_a_record_in_no_list_stops_blocking_its_id(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    enqueue_score(conn, "v1", DIGEST)
    conn.delete(gpu_queue(conn).key)  # a crash at a bad moment
    enqueue_score(conn, "v2", DIGEST)
    assert not enqueue_score(conn, "v1", DIGEST)
    for _ in range(2):
        conn.delete("maskloop:janitor:swept")
        clean(conn)
    assert enqueue_score(conn, "v1", DIGEST)
    assert gpu_queue(conn).job_ids == [score_job_id("v2", DIGEST), JOB]


def test_failures_are_forgotten_in_time(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    queue = gpu_queue(conn)
    job = MaskloopJob.create(
        "maskloop_queue.jobs.score_image", args=("v1", DIGEST, None), connection=conn, serializer="json", id="x"
    )
    job.origin = queue.name
    queue.failed_job_registry.add(job, ttl=1, exc_string="x")
    assert pending_jobs(conn)["gpu"]["failed"] == 1

    def forgotten() -> bool:
        clean(conn)
        return pending_jobs(conn)["gpu"]["failed"] == 0 and not conn.exists(job.key)

    wait_until("forgotten", forgotten, 5)


def test_a_job_whose_first_worker_died_ends_when_it_is_done(shared_valkey: Valkey) -> None:
    """RQ 3.0.0 itself takes it for failed, and runs it again."""
    conn = shared_valkey.connect()
    queue = gpu_queue(conn)
    queue.enqueue_call(
        "maskloop_queue.jobs.score_image",
        args=("v1", DIGEST, 1.0),
        job_id=JOB,
        result_ttl=0,
        retry=Retry(max=RETRIES),
    )
    start_and_die(queue, JOB)
    time.sleep(1.1)  # its execution's record expires, the entry in the job's list of executions does not
    clean(conn)
    job = fetch(conn, JOB)
    assert job is not None
    assert job.get_executions() == []
    job.delete()
    assert not conn.exists(job.key)


def test_a_lease_from_a_clock_that_was_ahead_is_shortened(shared_valkey: Valkey) -> None:
    """Its worker is dead, or renews it; a lease of an ordinary length stays as it is."""
    conn = shared_valkey.connect()
    queue = gpu_queue(conn)
    enqueue_score(conn, "v1", DIGEST)
    start_and_die(queue, JOB)
    registry = queue.started_job_registry
    ((name, execution_id),) = registry.get_job_and_execution_ids(cleanup=False)
    member = f"{name}:{execution_id}"
    for ahead, kept in ((25.0, 25.0), (86_400.0, 30.0 + janitor.CLOCKS_APART)):
        conn.zadd(registry.key, {member: time.time() + ahead})
        clean(conn, lease=30.0)
        left = float(conn.zscore(registry.key, member) or 0) - time.time()
        assert kept - 5 < left <= kept
    assert queue.job_ids == []


def test_a_job_taken_before_the_clock_was_set_back_goes_back(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    queue = gpu_queue(conn)
    enqueue_score(conn, "v1", DIGEST)
    conn.lmove(queue.key, queue.intermediate_queue_key)
    clean(conn)
    conn.hset("maskloop:janitor:taken:gpu", JOB, time.time() + 86_400)
    clean(conn)
    assert queue.job_ids == [JOB]
