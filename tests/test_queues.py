"""What is enqueued: each piece of work once, only whitelisted functions, everything countable."""

import os
import subprocess
import sys

import pytest
from rq import Queue
from rq.job import JobStatus
from valkey_fixture import FLOORS, Valkey

from maskloop_queue import KEY_PREFIX
from maskloop_queue.jobs import JobRefused, fetch
from maskloop_queue.queues import (
    cancel_round,
    enqueue_round,
    enqueue_score,
    gpu_queue,
    job_progress,
    live_round_jobs,
    pending_jobs,
    score_job_id,
    training_queue,
)

DIGEST = "ab" * 32
OTHER = "cd" * 32


def test_every_key_has_our_prefix_and_no_payload_is_pickled(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    enqueue_score(conn, "v1", DIGEST)
    enqueue_round(conn, 1, 1)
    assert {key.split(b":")[0].decode() for key in conn.scan_iter()} == {KEY_PREFIX}
    job = fetch(conn, score_job_id("v1", DIGEST))
    assert job is not None
    assert job.data == b'["maskloop_queue.jobs.score_image", null, ["v1", "' + DIGEST.encode() + b'", null, ""], {}]'


def test_rq_imported_first_with_its_own_prefix_is_refused() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import rq, maskloop_queue"],
        env={**os.environ, "PYTHONPATH": FLOORS},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert "import maskloop_queue first" in run.stderr


def test_neither_queues_nor_jobs_import_torch() -> None:
    modules = "maskloop_queue.workers, maskloop_queue.queues, maskloop_queue.janitor, maskloop_queue.wake"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": FLOORS}, check=True)


def test_one_job_for_one_image_and_version(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    assert enqueue_score(conn, "v1", DIGEST)
    assert not enqueue_score(conn, "v1", DIGEST)
    assert enqueue_score(conn, "v2", DIGEST)
    assert gpu_queue(conn).count == 2


def test_who_waits_overtakes(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    for digest in (DIGEST, OTHER):
        enqueue_score(conn, "v1", digest)
    assert enqueue_score(conn, "v2", DIGEST, deadline=2e9, front=True)
    assert not enqueue_score(conn, "v1", OTHER, front=True)  # queued already: moved
    assert gpu_queue(conn).job_ids == [score_job_id(*at) for at in (("v1", OTHER), ("v2", DIGEST), ("v1", DIGEST))]


def test_what_failed_is_tried_again_at_once_only_for_who_waits(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    enqueue_score(conn, "v1", DIGEST)
    queue = gpu_queue(conn)
    queue.pop_job_id()
    job = fetch(conn, score_job_id("v1", DIGEST))
    assert job is not None
    job.set_status(JobStatus.FAILED)
    queue.failed_job_registry.add(job, ttl=60, exc_string="x")
    assert not enqueue_score(conn, "v1", DIGEST)
    assert queue.count == 0
    assert enqueue_score(conn, "v1", DIGEST, front=True)
    assert queue.job_ids == [job.id]
    assert pending_jobs(conn)["gpu"] == {"queued": 1, "started": 0, "failed": 0, "workers": 0}


def test_an_id_that_redis_or_rq_would_misread_is_refused(shared_valkey: Valkey) -> None:
    with pytest.raises(ValueError, match="version 'v:1'"):
        enqueue_score(shared_valkey.connect(), "v:1", DIGEST)


def test_only_our_functions_are_enqueued(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    with pytest.raises(JobRefused, match=r"os\.system"):
        gpu_queue(conn).enqueue("os.system", "true")
    with pytest.raises(JobRefused, match=r"posix\.system"):
        training_queue(conn).enqueue(os.system, "true")
    assert not list(conn.scan_iter(f"{KEY_PREFIX}:job:*"))


def test_callbacks_and_webhooks_of_a_stored_job_are_dropped(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    enqueue_score(conn, "v1", DIGEST)
    key = f"{KEY_PREFIX}:job:{score_job_id('v1', DIGEST)}"
    hook = '[{"url": "http://169.254.169.254/", "job_status": "failed"}]'
    conn.hset(
        key,
        mapping={"failure_callback_name": "os.system", "success_callback_name": "os.system", "webhooks": hook},
    )
    job = fetch(conn, score_job_id("v1", DIGEST))
    assert job is not None
    assert job.failure_callback is None
    assert job.success_callback is None
    assert job.webhooks == []


def test_a_damaged_job_is_no_job(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    enqueue_score(conn, "v1", DIGEST)
    conn.hset(f"{KEY_PREFIX}:job:{score_job_id('v1', DIGEST)}", "status", "nonsense")
    assert fetch(conn, score_job_id("v1", DIGEST)) is None


def test_rounds_are_live_until_their_job_is_gone(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    assert enqueue_round(conn, 7, 1)
    assert not enqueue_round(conn, 7, 1)
    assert enqueue_round(conn, 8, 2)
    assert live_round_jobs(conn) == {7, 8}
    assert job_progress(conn, 7) is None
    # Taken from the queue and not started yet: still there.
    conn.lmove(training_queue(conn).key, training_queue(conn).intermediate_queue_key)
    assert live_round_jobs(conn) == {7, 8}
    assert cancel_round(conn, 8) == 1
    assert live_round_jobs(conn) == {7}
    conn.flushall()
    assert live_round_jobs(conn) == set()
    assert enqueue_round(conn, 7, 1)


def test_counting_cleans_nothing_up(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    conn.zadd(Queue("gpu", connection=conn).started_job_registry.key, {"lost:1": 1})
    assert pending_jobs(conn)["gpu"]["started"] == 1
