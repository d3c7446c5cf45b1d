"""Two GPU workers share a scoring run: no image twice, and the share of one that disappears goes to the other."""

import signal
import time
from collections.abc import Callable

import psutil
import pytest
from pool_fixture import add_project, png_bytes
from sqlalchemy import func, select
from valkey_fixture import wait_until
from worker_fixture import Workers

from maskloop_backend.sync.fairness import enqueue_fairly
from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.checkpoint import save_weights
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Image, Model, Prediction, Project, Score, Task
from maskloop_learner.settings import Settings
from maskloop_learner.train.registry import ensure_version, set_champion
from maskloop_queue.queues import pending_jobs
from maskloop_queue.valkey import redis_url

IMAGES = 60
LEASE = 4


@pytest.fixture
def project(pool: Pool, settings: Settings) -> int:
    """A champion and sixty images that it has not seen."""
    settings.samples = 2
    project_id = add_project(pool)
    with pool.write() as session:
        for number in range(1, IMAGES + 1):
            data = png_bytes(number, width=96, height=96)
            digest = pool.store.put("images", data)
            session.add(Image(digest=digest, width=96, height=96, format="PNG", size=len(data)))
            session.flush()
            session.add(Task(project_id=project_id, ls_id=number, state="ready", image_digest=digest))
    weights = pool.store.put("weights", save_weights(MedCLIPSeg(BACKBONES["nano"], seed=0), meta={}))
    with pool.write() as session:
        model = Model(project_id=project_id, weights_digest=weights, backbone="nano", labels=["Tumor"])
        session.add(model)
        session.flush()
        version = ensure_version(session, session.get_one(Project, project_id), model, settings)
        set_champion(session, project_id=project_id, model_id=model.id, version_id=version, fence=0, by="test")
    return project_id


class Run:
    """A scoring run, `sync` played by the test."""

    def __init__(self, pool: Pool, settings: Settings, workers: Workers, project: int) -> None:
        self.pool, self.settings, self.workers, self.project = pool, settings, workers, project

    def start(self, name: str, lease: int = LEASE) -> psutil.Process:
        """One more worker."""
        process = self.workers.start(
            "gpu",
            MASKLOOP_HOME=str(self.settings.home),
            MASKLOOP_REDIS_URL=redis_url(self.workers.valkey.settings),
            MASKLOOP_GPU_THREADS="1",
            MASKLOOP_SAMPLES="2",
            MASKLOOP_DEVICE="cpu",
            MASKLOOP_WORKER_LEASE=str(lease),
            MASKLOOP_BEAT=str(self.settings.home / name),
        )
        return psutil.Process(process.pid)

    def done(self) -> int:
        """Images that have a prediction."""
        with self.pool.read() as session:
            return session.scalar(select(func.count(Prediction.id))) or 0

    def shares(self) -> dict[int, int]:
        """Process id -> jobs that it did."""
        conn = self.workers.conn
        rows = [conn.hmget(key, "pid", "successful_job_count") for key in conn.smembers("maskloop:workers:gpu")]
        return {int(pid): int(count or 0) for pid, count in rows if pid}

    def until(self, what: str, check: Callable[[], object], timeout: float = 200.0) -> float:
        """Go on as `sync` does until `check` is true; return the seconds."""

        def look() -> object:
            enqueue_fairly(self.pool, self.workers.conn, self.project)
            return check()

        return self.workers.wait_clean(what, look, timeout)

    def check_whole(self) -> None:
        """Every image has one prediction with one score, nothing failed, and nothing is under way."""
        wait_until("idle", lambda: pending_jobs(self.workers.conn)["gpu"]["started"] == 0, 20)
        counts = pending_jobs(self.workers.conn)["gpu"]
        assert (counts["queued"], counts["failed"]) == (0, 0)
        with self.pool.read() as session:
            images = session.scalars(select(Prediction.image_digest).where(Prediction.error.is_(None))).all()
            scores = session.scalar(select(func.count(Score.id)))
        assert len(images) == len(set(images)) == scores == IMAGES


@pytest.fixture
def run(pool: Pool, settings: Settings, workers: Workers, project: int) -> Run:
    return Run(pool, settings, workers, project)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_workers_do_every_image_once(run: Run) -> None:
    """Both take part, and none draws what the other has drawn."""
    both = [run.start(name, lease=60) for name in ("a", "b")]  # no machine is so busy that one is taken for dead
    wait_until("both are there", lambda: pending_jobs(run.workers.conn)["gpu"]["workers"] == 2, 120)
    took = run.until("all is predicted", lambda: run.done() == IMAGES)
    run.check_whole()
    shares = run.shares()
    print(f"{IMAGES} images in {took:.1f} s, shares {sorted(shares.values())}")
    assert set(shares) == {process.pid for process in both}
    # A job may be enqueued once more while its image is written; it finds that there is nothing to do.
    assert sum(shares.values()) >= IMAGES
    assert "was there already" not in run.workers.log
    assert min(shares.values()) >= IMAGES // 6


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_the_share_of_a_worker_that_disappears_goes_to_the_other(run: Run, how: signal.Signals) -> None:
    """Killed, or standing still for longer than its lease and waking up: no image is lost, none is there twice."""
    victim, _ = run.start("a"), run.start("b")
    run.until("both work", lambda: len(run.shares()) == 2 and min(run.shares().values()) >= 2)
    # In the middle of a job: what it has is not in the queue.
    wait_until("at work", lambda: pending_jobs(run.workers.conn)["gpu"]["started"] == 2, 60, every=0.001)
    victim.send_signal(how)
    before, stopped = run.done(), time.monotonic()
    run.until("all is predicted", lambda: run.done() == IMAGES)
    took = time.monotonic() - stopped
    if how == signal.SIGSTOP:
        victim.send_signal(signal.SIGCONT)
        time.sleep(1.0)
        assert victim.is_running()
    run.check_whole()
    print(f"{how.name} after {before} images; the other {IMAGES - before} took {took:.1f} s with a lease of {LEASE} s")
    assert before < IMAGES
