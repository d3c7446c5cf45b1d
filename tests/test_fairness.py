"""Projects on one worker: they take turns, whoever has more images, and a person waits for nobody's ten thousand."""

import random
import threading
import time
from collections import Counter
from functools import lru_cache

import pytest
import redis
from pool_fixture import add_project, png_bytes
from sqlalchemy import func, select
from valkey_fixture import Valkey, wait_until
from worker_fixture import Workers

from maskloop_backend.sync.fairness import JOBS_IN_ALL, LEAST_AHEAD, enqueue_fairly
from maskloop_backend.sync.work import JOBS_AHEAD
from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.checkpoint import save_weights
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import current_version
from maskloop_learner.pool.schema import Image, Model, Prediction, Project, Task
from maskloop_learner.settings import Settings
from maskloop_learner.train.registry import ensure_version, set_champion
from maskloop_queue.queues import enqueue_score, gpu_queue, score_job_id
from maskloop_queue.turns import take_turns, waiting_jobs
from maskloop_queue.valkey import redis_url

CHEAP = {"method": "mean-value", "samples": 1, "of_samples": 2}


@pytest.fixture
def conn(shared_valkey: Valkey) -> redis.Redis:
    return shared_valkey.connect()


def image(number: int) -> str:
    return f"{number:032x}"


def put(conn: redis.Redis, version: str, *numbers: int, front: bool = False) -> None:
    for number in numbers:
        enqueue_score(conn, version, image(number), front=front)


def pop(conn: redis.Redis) -> str:
    """Take the next job's id; empty when there is none."""
    found = conn.lpop(gpu_queue(conn).key)
    return found.decode() if isinstance(found, bytes) else ""


def order(conn: redis.Redis) -> str:
    """The queue as version and number, the next job first."""
    rows = [job_id.split("-") for job_id in gpu_queue(conn).job_ids]
    return " ".join(f"{version}{int(number, 16)}" for _, version, number in rows)


def test_versions_take_turns_in_short_runs(conn: redis.Redis) -> None:
    """A late comer waits for one run of each other's; the order within a version stays."""
    put(conn, "a", 1, 2, 3, 4, 5, 6, 7)
    assert not take_turns(conn, ["a"])
    put(conn, "b", 1, 2, 3)
    assert take_turns(conn, ["a", "b"])
    assert order(conn) == "a1 a2 b1 b2 a3 a4 b3 a5 a6 a7"
    put(conn, "c", 1, 2)
    take_turns(conn, ["a", "b", "c"])
    assert order(conn) == "a1 a2 b1 b2 c1 c2 a3 a4 b3 a5 a6 a7"
    assert waiting_jobs(conn) == {"a": 7, "b": 3, "c": 2}
    with pytest.raises(ValueError, match="run must be at least 1, got 0"):
        take_turns(conn, ["a"], run=0)


def test_looking_often_gives_nobody_more(conn: redis.Redis) -> None:
    """A run that a worker is in the middle of is not made longer, however often jobs come and turns are taken."""
    put(conn, "a", *range(1, 9))
    put(conn, "b", *range(1, 9))
    take_turns(conn, ["a", "b"])
    assert not take_turns(conn, ["a", "b"])
    taken = []
    for number in range(9, 17):
        taken.append(pop(conn).split("-")[1])
        put(conn, "a", number)
        take_turns(conn, ["a", "b"])
    assert "".join(taken) == "aabbaabb"


def test_what_a_person_waits_for_stays_first(conn: redis.Redis) -> None:
    """Newly asked for or queued already, of whatever version, in the order in which they stand."""
    put(conn, "a", 1, 2, 3, 4, 5)
    put(conn, "b", 1, 2, 3)
    put(conn, "b", 9, front=True)
    put(conn, "a", 4, front=True)
    take_turns(conn, ["a", "b"])
    assert order(conn) == "a4 b9 a1 a2 b1 b2 a3 a5 b3"
    assert pop(conn).startswith("score-a")
    put(conn, "a", 3, front=True)
    take_turns(conn, ["a", "b"])
    assert order(conn).startswith("a3 b9 a1 a2 b1")


def test_versions_that_are_served_no_more_go_last(conn: redis.Redis) -> None:
    put(conn, "old", 1, 2)
    put(conn, "a", 1, 2, 3)
    put(conn, "b", 1)
    take_turns(conn, ["a", "b"])
    assert order(conn) == "a1 a2 b1 a3 old1 old2"


def test_jobs_of_another_kind_stay_first(conn: redis.Redis) -> None:
    conn.rpush(gpu_queue(conn).key, "score-a-1", "score-b-1", "suggest-a-1", "job-1")
    take_turns(conn, ["a", "b"])
    assert gpu_queue(conn).job_ids == ["suggest-a-1", "job-1", "score-a-1", "score-b-1"]


def test_no_job_is_lost_while_turns_are_taken(conn: redis.Redis, shared_valkey: Valkey) -> None:
    """Two takers empty the queue, as workers do, while others add jobs and change the order all the time."""
    wanted = [f"score-{version}-{image(number)}" for version in "abc" for number in range(400)]
    random.Random(0).shuffle(wanted)
    key, done, got = gpu_queue(conn).key, threading.Event(), list[str]()

    def take() -> None:
        mine = shared_valkey.connect()
        while not done.is_set() or mine.llen(key):
            if found := pop(mine):
                got.append(found)

    takers = [threading.Thread(target=take) for _ in range(2)]
    for taker in takers:
        taker.start()
    for start in range(0, len(wanted), 20):
        conn.rpush(key, *wanted[start : start + 20])
        take_turns(conn, ["a", "b", "c"])
    done.set()
    for taker in takers:
        taker.join(30)
    assert sorted(got) == sorted(wanted)


@lru_cache
def random_weights(seed: int) -> bytes:
    return save_weights(MedCLIPSeg(BACKBONES["nano"], seed=seed), meta={})


def add_champion(pool: Pool, settings: Settings, *, ls_id: int, images: int, seed: int) -> int:
    """A project with a model of its own; returns its id in the pool."""
    project_id = add_project(pool, ls_id=ls_id)
    with pool.write() as session:
        for number in range(images):
            data = png_bytes(1000 * ls_id + number)
            digest = pool.store.put("images", data)
            session.add(Image(digest=digest, width=24, height=16, format="PNG", size=len(data)))
            session.flush()
            session.add(Task(project_id=project_id, ls_id=number + 1, state="ready", image_digest=digest))
    weights = pool.store.put("weights", random_weights(seed))
    with pool.write() as session:
        project = session.get_one(Project, project_id)
        model = Model(
            project_id=project_id,
            weights_digest=weights,
            backbone="nano",
            labels=["Tumor"],
            config={"ranking": CHEAP} if seed % 2 else {},
        )
        session.add(model)
        session.flush()
        version = ensure_version(session, project, model, settings)
        set_champion(session, project_id=project_id, model_id=model.id, version_id=version, fence=0, by="test")
    return project_id


def test_many_projects_share_what_is_enqueued_ahead(pool: Pool, settings: Settings, conn: redis.Redis) -> None:
    """One alone has `JOBS_AHEAD` images in the queue; with others there are fewer of each, and never none."""
    settings.samples = 2
    first = add_champion(pool, settings, ls_id=1, images=JOBS_AHEAD + 10, seed=0)
    assert enqueue_fairly(pool, conn, first) == JOBS_AHEAD
    others = JOBS_IN_ALL // LEAST_AHEAD
    projects = [add_champion(pool, settings, ls_id=10 + k, images=LEAST_AHEAD + 2, seed=2) for k in range(others)]
    for project in projects:
        enqueue_fairly(pool, conn, project)
    counts = waiting_jobs(conn)
    assert len(counts) == others + 1
    assert min(counts.values()) == LEAST_AHEAD
    head = [job_id.split("-", 1)[1].rpartition("-")[0] for job_id in gpu_queue(conn).job_ids[: 2 * (others + 1)]]
    assert set(Counter(head).values()) == {2}, "everyone has a run before anyone has a second"
    assert enqueue_fairly(pool, conn, add_project(pool, ls_id=99)) == 0


@pytest.fixture
def crowd(pool: Pool, settings: Settings, workers: Workers) -> tuple[int, int]:
    """A project of 70 images that has a full queue, and one of 20 that comes after it."""
    settings.samples = 2
    many = add_champion(pool, settings, ls_id=1, images=70, seed=1)
    few = add_champion(pool, settings, ls_id=2, images=20, seed=3)
    enqueue_fairly(pool, workers.conn, many)
    return many, few


def start_worker(workers: Workers, settings: Settings) -> None:
    workers.start(
        "gpu",
        MASKLOOP_HOME=str(settings.home),
        MASKLOOP_REDIS_URL=redis_url(workers.valkey.settings),
        MASKLOOP_GPU_THREADS="1",
        MASKLOOP_SAMPLES="2",
        MASKLOOP_WORKER_LEASE="30",
    )


def predicted(pool: Pool) -> list[int]:
    """The projects of all predictions, in the order in which they were made."""
    statement = select(Task.project_id).join(Prediction, Prediction.image_digest == Task.image_digest)
    with pool.read() as session:
        return list(session.scalars(statement.order_by(Prediction.id)))


@pytest.mark.slow
def test_a_project_of_many_images_does_not_starve_another(
    pool: Pool, settings: Settings, workers: Workers, crowd: tuple[int, int]
) -> None:
    """While both have work, each gets at least 40 % of any 20 predictions; the late comer's first is among five."""
    start_worker(workers, settings)

    many, few = crowd

    def small_done() -> bool:
        enqueue_fairly(pool, workers.conn, many)
        return enqueue_fairly(pool, workers.conn, few) == 0

    wait_until("the small project is predicted", small_done, timeout=120, every=0.1)
    made = predicted(pool)
    assert made.count(few) == 20
    assert few in made[:5]
    both = made[: len(made) - made[::-1].index(few)]
    shares = [both[start : start + 20].count(few) / 20 for start in range(len(both) - 19)]
    print(f"{len(both)} predictions while both had work; shares of the small project {min(shares)} to {max(shares)}")
    assert 0.4 <= min(shares) <= max(shares) <= 0.6


def test_a_person_waits_for_one_job_at_most(
    pool: Pool, settings: Settings, workers: Workers, crowd: tuple[int, int]
) -> None:
    """While two projects have full queues and turns are taken all the time, an image that is asked for comes next."""
    many, few = crowd
    enqueue_fairly(pool, workers.conn, few)
    with pool.read() as session:
        version = current_version(session, few)
        tasks = select(Task).where(Task.project_id == few).order_by(Task.id.desc())
        digests = [task.image_digest for task in session.scalars(tasks) if task.image_digest]
    assert version is not None
    start_worker(workers, settings)
    wait_until("work", lambda: len(predicted(pool)) >= 4, timeout=60)
    before = []
    for digest in digests[:5]:
        asked = score_job_id(version, digest)
        enqueue_score(workers.conn, version, digest, deadline=time.time() + 60, front=True)
        running = rows(pool)
        for project in (many, few):
            enqueue_fairly(pool, workers.conn, project)
        waiting = gpu_queue(workers.conn).job_ids[1:]
        # Enqueued anew in the moment in which it was made, it waits again and finds that it is there.
        assert asked not in waiting or prediction(pool, digest) is not None
        wait_until("the image", lambda: prediction(pool, digest) is not None, timeout=60, every=0.01)  # noqa: B023
        mine = prediction(pool, digest)
        assert mine is not None
        before.append(mine - running - 1)
    print(f"jobs between the wish and its answer: {before}")
    assert max(before) <= 1


def rows(pool: Pool) -> int:
    """The id of the last prediction."""
    with pool.read() as session:
        return session.scalar(select(func.max(Prediction.id))) or 0


def prediction(pool: Pool, digest: str) -> int | None:
    """The id of an image's prediction."""
    with pool.read() as session:
        return session.scalar(select(Prediction.id).where(Prediction.image_digest == digest))
