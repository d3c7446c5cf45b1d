"""Real workers on a real Valkey: what they run, how they stop, and what happens when they or Valkey die."""

import pickle
import signal
import time
from pathlib import Path

import psutil
import pytest
from rq import Queue
from rq.job import JobStatus
from valkey_fixture import wait_until
from worker_fixture import LEASE, Workers, put_by_hand

from maskloop_queue.jobs import fetch
from maskloop_queue.queues import enqueue_score, live_job_ids, pending_jobs, score_job_id


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, (f"touch {self.path}",)


def failure(workers: Workers, job_id: str) -> str:
    """Why a failed job failed."""
    job = fetch(workers.conn, job_id)
    assert job is not None
    assert job.get_status() == JobStatus.FAILED
    result = job.latest_result()
    assert result is not None
    return str(result.exc_string)


@pytest.mark.parametrize("kind", ["gpu", "training"])
def test_foreign_functions_are_refused_and_not_run(workers: Workers, tmp_path: Path, kind: str) -> None:
    queue = Queue(kind, connection=workers.conn)
    touched = tmp_path / "touched"
    put_by_hand(workers.conn, queue, "system", f'["os.system", null, ["touch {touched}"], {{}}]'.encode())
    put_by_hand(workers.conn, queue, "method", f'["touch", {{"a": 1}}, ["{touched}"], {{}}]'.encode())
    put_by_hand(workers.conn, queue, "pickled", pickle.dumps(("os.system", Bomb(touched), (), {})))
    workers.start(kind)
    wait_until("failed", lambda: queue.failed_job_registry.get_job_count(cleanup=False) == 3, 20)
    assert "names 'os.system', which is not a job of Maskloop: it was not run" in failure(workers, "system")
    assert "JobRefused: job 'method' names 'touch'" in failure(workers, "method")
    assert "DeserializationError" in failure(workers, "pickled")
    assert not touched.exists()
    assert workers.processes[0].poll() is None


def test_gpu_worker_is_warm_leaves_no_record_and_stops_at_once_when_idle(workers: Workers, gpu: Queue) -> None:
    process = workers.start("gpu")
    for number in range(3):
        workers.put(gpu, "busy", 0.1, job_id=f"job-{number}")
    workers.wait("end", 3)
    workers.wait_idle(gpu)
    assert {entry["pid"] for entry in workers.notes("end")} == {process.pid}
    assert not list(workers.conn.scan_iter("maskloop:job:*"))
    assert pending_jobs(workers.conn)["gpu"] == {"queued": 0, "started": 0, "failed": 0, "workers": 1}
    start = time.monotonic()
    assert workers.end(process, signal.SIGTERM) == 0
    assert time.monotonic() - start < 3
    assert pending_jobs(workers.conn)["gpu"]["workers"] == 0


def test_job_is_dropped_when_nobody_waits_any_more(workers: Workers, gpu: Queue) -> None:
    enqueue_score(workers.conn, "v1", "ab" * 32, deadline=time.time() - 1, front=True)
    workers.start("gpu")
    wait_until("dropped", lambda: fetch(workers.conn, score_job_id("v1", "ab" * 32)) is None, 20)
    wait_until("logged", lambda: "nobody waits any more for image abababababab under v1" in workers.log)
    assert gpu.failed_job_registry.get_job_count(cleanup=False) == 0


def test_a_failure_is_kept_and_not_tried_again_by_the_queue(workers: Workers, gpu: Queue) -> None:
    job_id = workers.put(gpu, "fail")
    workers.start("gpu")
    wait_until("failed", lambda: gpu.failed_job_registry.get_job_count(cleanup=False) == 1, 20)
    assert len(workers.notes("start")) == 1
    assert "ValueError: a job that fails" in failure(workers, job_id)
    assert workers.conn.ttl(f"maskloop:job:{job_id}") <= 60


def test_gpu_worker_finishes_its_job_on_sigterm(workers: Workers, gpu: Queue) -> None:
    process = workers.start("gpu")
    workers.put(gpu, "busy", 1.5)
    workers.put(gpu, "busy", 1.5, job_id="job-2")
    workers.wait("start")
    assert workers.end(process, signal.SIGTERM) == 0
    assert len(workers.notes("end")) == 1
    assert live_job_ids(gpu) == {"job-2"}


def test_lease_lasts_with_progress_and_ends_without(workers: Workers, gpu: Queue) -> None:
    workers.start("gpu")
    workers.put(gpu, "busy", 1.75 * LEASE)
    workers.wait("end", cleaning=True)
    assert len(workers.notes("start")) == 1
    # Without progress it is given to another worker, while the first one still hangs.
    workers.put(gpu, "hang", 4 * LEASE, job_id="job-2")
    workers.wait("start", 2)
    beat = workers.beat.stat().st_mtime
    workers.start("gpu", MASKLOOP_BEAT=str(workers.folder / "other"))
    seconds = workers.wait("start", 3, cleaning=True, timeout=LEASE + 10)
    assert seconds < LEASE + 4
    assert workers.notes("start")[1]["pid"] != workers.notes("start")[2]["pid"]
    assert workers.beat.stat().st_mtime == beat  # for the supervisor to see that it hangs


def test_killed_gpu_worker_loses_no_job(workers: Workers, gpu: Queue) -> None:
    first = workers.start("gpu")
    workers.put(gpu, "busy", 1)
    workers.wait("start")
    workers.end(first, signal.SIGKILL)
    workers.start("gpu")
    workers.wait("end", cleaning=True)
    assert len(workers.notes("start")) == 2
    workers.wait_idle(gpu)
    workers.wait_clean("the dead worker is forgotten", lambda: pending_jobs(workers.conn)["gpu"]["workers"] == 1)


def test_idle_worker_shows_life(workers: Workers) -> None:
    workers.start("gpu")
    wait_until("alive", workers.beat.exists, 20)
    before = workers.beat.stat().st_mtime
    wait_until("alive again", lambda: workers.beat.stat().st_mtime > before, 5)


@pytest.mark.parametrize("kind", ["gpu", "training"])
def test_worker_outlasts_a_valkey_that_is_killed(workers: Workers, kind: str) -> None:
    queue = gpu_or_training(workers, kind)
    process = workers.start(kind)
    workers.put(queue, "busy", 2.5)
    workers.wait("start")
    time.sleep(1.2)  # until it is on the disk that the job has started
    workers.valkey.stop(signal.SIGKILL)
    time.sleep(2.5)  # the job ends while there is no Valkey
    workers.valkey.start()
    workers.wait("end")
    workers.put(queue, "busy", 0.1, job_id="job-2")
    workers.wait("end", 2, cleaning=True)
    assert process.poll() is None
    workers.wait_clean("settled", lambda: not live_job_ids(queue))


def gpu_or_training(workers: Workers, kind: str) -> Queue:
    """The queue of a kind of worker."""
    from maskloop_queue.queues import gpu_queue, training_queue

    return gpu_queue(workers.conn) if kind == "gpu" else training_queue(workers.conn)


def test_worker_gives_up_when_valkey_stays_away(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskloop_queue import workers as module
    from maskloop_queue.processes import Beat

    monkeypatch.setattr(module, "OUTAGE", 0.5)
    workers.valkey.stop()
    import threading

    assert not module._wait_for_redis(workers.valkey.connect(patience=0.1), Beat(None), threading.Event())


def test_horse_is_nice_bounded_and_alone_in_importing_torch(workers: Workers, training: Queue) -> None:
    parent = workers.start("training")
    workers.put(training, "describe")
    workers.wait("start", timeout=60)
    said = workers.notes("start")[0]
    assert said["pid"] != parent.pid
    assert said["parent"] == parent.pid
    assert said["nice"] == psutil.Process(parent.pid).nice() + 10
    assert said["threads"] == 1
    assert not said["torch_before"]
    assert not any("torch" in entry.path for entry in psutil.Process(parent.pid).memory_maps())
    assert any("torch" in entry.path for entry in psutil.Process(said["pid"]).memory_maps())


def test_killed_training_worker_takes_its_horse_along_and_the_job_goes_on(workers: Workers, training: Queue) -> None:
    first = workers.start("training")
    workers.put(training, "steps", 15)
    workers.wait("start")
    horse = psutil.Process(workers.notes("start")[0]["pid"])
    time.sleep(0.5)
    workers.end(first, signal.SIGKILL)
    wait_until("dead", lambda: not horse.is_running(), 3)
    workers.start("training")
    workers.wait("end", cleaning=True)
    begun = workers.notes("start")
    assert len(begun) == 2
    assert begun[1]["done"] > 0
    workers.wait_idle(training)


def test_stopped_training_is_put_back_and_goes_on_where_it_was(workers: Workers, training: Queue) -> None:
    first = workers.start("training")
    workers.put(training, "steps", 15)
    workers.put(training, "steps", 1, job_id="job-2")
    workers.wait("start")
    time.sleep(0.5)
    start = time.monotonic()
    assert workers.end(first, signal.SIGTERM) == 0
    assert time.monotonic() - start < 3
    assert training.job_ids == ["job-1", "job-2"]
    workers.start("training")
    workers.wait("end")
    assert workers.notes("start")[1]["done"] > 0


def test_killed_horse_is_replaced_at_once(workers: Workers, training: Queue) -> None:
    workers.start("training")
    workers.put(training, "steps", 15)
    workers.wait("start")
    psutil.Process(workers.notes("start")[0]["pid"]).kill()
    assert workers.wait("start", 2) < 2
    workers.wait("end")


def test_hanging_horse_is_killed_and_its_job_tried_again(workers: Workers, training: Queue) -> None:
    worker = workers.start("training", MASKLOOP_HANG_TIMEOUT="1")
    workers.put(training, "hang", 60)
    workers.wait("start", 2, cleaning=True)
    pids = [entry["pid"] for entry in workers.notes("start")]
    assert not psutil.pid_exists(pids[0])
    assert worker.poll() is None
    assert "no progress" in workers.log


def test_running_training_can_be_cancelled_and_shows_progress(workers: Workers, training: Queue) -> None:
    from maskloop_queue.queues import cancel_round, job_progress

    workers.start("training")
    workers.put(training, "steps", 600, job_id="round-5-1")
    wait_until("progress", lambda: (job_progress(workers.conn, 5) or {}).get("step", 0) > 1, 20)
    horse = psutil.Process(workers.notes("start")[0]["pid"])
    assert "round-5-1: step" in workers.log
    assert cancel_round(workers.conn, 5) == 1
    wait_until("dead", lambda: not horse.is_running(), 5)
    wait_until("idle", lambda: not live_job_ids(training), 5)
    assert fetch(workers.conn, "round-5-1").get_status() == JobStatus.STOPPED  # type: ignore[union-attr]
    time.sleep(1.5)
    assert len(workers.notes("start")) == 1


def test_progress_after_flushall_leaves_nothing_that_blocks_the_round(workers: Workers, training: Queue) -> None:
    from maskloop_queue.queues import live_round_jobs

    workers.start("training")
    workers.put(training, "steps", 40, job_id="round-6-1")
    workers.wait("start")
    workers.conn.flushall()
    time.sleep(1.5)
    assert live_round_jobs(workers.conn) == set()
    assert workers.conn.exists("maskloop:job:round-6-1") == 0
    workers.put(training, "steps", 40, job_id="round-6-1")
    assert live_round_jobs(workers.conn) == {6}
    workers.wait("end", cleaning=True)
