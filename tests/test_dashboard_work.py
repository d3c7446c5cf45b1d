"""The dashboard's page of work: what it says with and without Redis, and what its buttons do."""

import re
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
import redis
from pool_fixture import add_label, add_model, add_project, add_task
from sqlalchemy import select
from valkey_fixture import Valkey, wait_until
from web_fixture import add_version, serving

from maskloop_backend.credentials import add_reader, load_credentials
from maskloop_backend.overview.happenings import read_happenings, tell
from maskloop_backend.overview.queues import JobKind, Queues, read_queues
from maskloop_backend.overview.work import Work, read_work
from maskloop_backend.sync.work import enqueue_rounds
from maskloop_backend.web.dashboard.kept import LONGEST, Kept
from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Event, Prediction, Project, Round, Task, TrainRequest, utcnow
from maskloop_learner.settings import Settings
from maskloop_queue.gpu import GpuWorker
from maskloop_queue.jobs import fetch
from maskloop_queue.processes import Beat
from maskloop_queue.queues import (
    enqueue_embedding,
    enqueue_rank,
    enqueue_round,
    enqueue_score,
    gpu_queue,
    score_job_id,
    training_queue,
)
from maskloop_queue.running import Place, enter
from maskloop_queue.triggers import request_training, start_due_round
from maskloop_queue.valkey import redis_url
from maskloop_queue.wake import KEY

VERSION = "maskloop-bbbbbbbbbbbb"
HTMX = {"HX-Request": "true"}


@pytest.fixture
def project(pool: Pool, settings: Settings, shared_valkey: Valkey) -> int:
    """Six labelled images and four that wait, a model, and sync that has looked just now; Redis is up."""
    settings.redis_url, settings.trigger_labels = redis_url(shared_valkey.settings), 10
    number = add_project(pool)
    for task in range(1, 11):
        made = add_task(pool, number, task)
        if task < 7:
            add_label(pool, made)
    add_version(pool, number, add_model(pool, number), VERSION)
    with pool.write() as session:
        row = session.get_one(Project, number)
        row.title, row.looked_at, row.served_version = "Breast ultrasound", utcnow(), VERSION
    return number


@pytest.fixture
def conn(shared_valkey: Valkey) -> redis.Redis:
    """To the tests' Valkey."""
    return shared_valkey.connect()


@pytest.fixture
def web(pool: Pool, settings: Settings, project: int) -> Iterator[httpx.Client]:
    """The dashboard, as the project lead."""
    with serving(pool, settings) as client:
        yield client


def worker_of(conn: redis.Redis, settings: Settings, name: str) -> GpuWorker:
    """A GPU worker of this process; it takes no job by itself."""
    return GpuWorker(gpu_queue(conn), name=name, settings=settings, beat=Beat.of_process(), stop=threading.Event())


def look(pool: Pool, settings: Settings, project: int, queues: Queues) -> Work:
    with pool.read() as session:
        return read_work(session, session.get_one(Project, project), settings, queues)


def press(web: httpx.Client, name: str, project: str = "7") -> str:
    """What comes back when a button is pressed."""
    answer = web.post(f"/work/{name}", data={"project": project}, headers=HTMX)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_jobs_and_workers_are_seen_as_redis_has_them(pool: Pool, settings: Settings, conn: redis.Redis) -> None:
    """By kind and what they are for; a worker whose record has expired is dead, one that says nothing is late."""
    assert read_queues(conn).lines[0].workers == 0
    enqueue_rank(conn, VERSION, "ab" * 32)
    for start in ("ab", "cd"):
        enqueue_score(conn, VERSION, start * 32)
    enqueue_embedding(conn, 3, "ab" * 32, "nano")
    enqueue_round(conn, 12, 1)
    gpu_queue(conn).push_job_id("strange")
    worker = worker_of(conn, settings, "gpu-here-1-x")
    worker.heartbeat()
    conn.lrem(gpu_queue(conn).key, 1, score_job_id(VERSION, "ab" * 32))
    job = fetch(conn, score_job_id(VERSION, "ab" * 32))
    assert job is not None
    worker.prepare_execution(job)
    conn.sadd("maskloop:workers:gpu", "maskloop:worker:gone")
    found = read_queues(conn)
    gpu, training = found.lines
    assert (gpu.queued, gpu.started, gpu.workers, training.queued) == (4, 1, 1, 1)
    assert gpu.waiting == {
        JobKind("rank", VERSION): 1,
        JobKind("score", VERSION): 1,
        JobKind("embed", "project3"): 1,
        JobKind("other", ""): 1,
    }
    assert gpu.working == (JobKind("score", VERSION),)
    assert sorted(gpu.kinds) == [
        ("comparing images", 1),
        ("drawing masks", 1),
        ("other work", 1),
        ("ranking", 1),
    ]
    assert training.waiting == {JobKind("round", "12"): 1}
    (seen,) = found.workers
    assert (seen.name, seen.job) == ("gpu-here-1-x", JobKind("score", VERSION))
    assert seen.heartbeat is not None
    assert not seen.is_late(settings.worker_lease)
    conn.hset(worker.key, "last_heartbeat", "2026-01-01T00:00:00.000000Z")
    assert read_queues(conn).workers[0].is_late(settings.worker_lease)
    assert found.waiting("score", [VERSION]) == 2
    assert found.waiting("score", ["another"]) == 0
    assert gpu_queue(conn).job_ids[-1] == "strange", "looking changes nothing"


def test_a_job_that_fails_says_why(pool: Pool, settings: Settings, conn: redis.Redis) -> None:
    """Run by a real worker: a round that there is not."""
    gpu_queue(conn).enqueue_call(
        "maskloop_queue.jobs.train_round", args=(999,), job_id="round-999-1", result_ttl=0, failure_ttl=60
    )
    enter(Place(settings))
    worker_of(conn, settings, "gpu-here-2-x").work(burst=True, logging_level="CRITICAL")
    line = read_queues(conn).lines[0]
    assert (line.queued, line.failed) == (0, 1)
    assert line.failures[0].what == JobKind("round", "999")
    assert "NoResultFound" in line.failures[0].message
    assert "\n" not in line.failures[0].message


def test_without_redis_the_pool_still_speaks(pool: Pool, settings: Settings, project: int) -> None:
    settings.redis_url = "redis://127.0.0.1:1/0"
    with serving(pool, settings) as web:
        page = web.get("/work").text
        assert "Redis does not answer: nothing is drawn" in page
        assert "All else on this page is from the pool" in page
        assert "6 of 10 new labels" in page
        assert "4 unlabelled images to go" in page
        assert "begins when Redis is back" in press(web, "train")
        assert "Asked for by this dashboard" in web.get("/work/live?project=7").text
    with pool.read() as session:
        assert session.scalars(select(TrainRequest.cause)).all() == ["dashboard"]


def test_a_training_is_asked_for_as_by_the_command(web: httpx.Client, pool: Pool, conn: redis.Redis) -> None:
    """Its request is in the pool and sync is woken; pressed while one runs, it says what comes first."""
    page = web.get("/work").text
    assert "No training runs." in page
    assert "Cancel the training" not in page
    said = press(web, "train")
    assert "It begins in a moment" in said
    assert "Cancel the training" in said
    assert conn.lrange(KEY, 0, -1) == [b"7"]
    with pool.read() as session:
        assert session.scalars(select(TrainRequest.cause)).all() == ["dashboard"]
        assert "training.requested" in session.scalars(select(Event.kind)).all()


def test_what_runs_is_shown_with_its_progress(
    web: httpx.Client, pool: Pool, settings: Settings, project: int, conn: redis.Redis
) -> None:
    request_training(pool, project, cause="cli")
    assert enqueue_rounds(pool, conn, project, settings)
    assert "waits for the training worker" in web.get("/work").text
    with pool.write() as session:
        row = session.scalars(select(Round)).one()
        row.state, row.started_at, row.attempts = "running", utcnow(), 1
        row.holder, row.held_until = "scanner 4711 abc def", utcnow() + timedelta(seconds=60)
        row.progress = {"step": 150, "steps": 1200, "loss": 0.25, "eta": 400.0}
    wait_until("shown", lambda: "step 150" in web.get("/work/live?project=7").text)
    page = web.get("/work").text
    assert 'max="1200" value="150"' in page
    assert "step 150 of 1,200, loss 0.250, about 7 min left" in page
    assert "on scanner, process 4711" in page
    assert "round 1 is running: one training at a time" in page.lower()
    assert "It begins when training 1 has ended" in press(web, "train")


def test_the_schedule_is_paused_and_resumed(web: httpx.Client, pool: Pool, project: int) -> None:
    said = press(web, "pause")
    assert "neither labels nor the clock start a training" in said
    assert "Resume the schedule" in said
    with pool.read() as session:
        row = session.get_one(Project, project)
        assert (row.paused_at is not None, row.paused_by) == (True, "the dashboard")
    assert "was paused already" in press(web, "pause")
    page = web.get("/work").text
    assert "schedule paused" in page
    assert "The schedule is paused since" in page
    said = press(web, "resume")
    assert "start trainings again" in said
    assert "Pause the schedule" in said
    with pool.read() as session:
        assert session.get_one(Project, project).paused_at is None
        kinds = session.scalars(select(Event.kind).order_by(Event.id.desc()).limit(2)).all()
    assert kinds == ["schedule.resumed", "schedule.paused"]


def test_a_training_is_cancelled(
    web: httpx.Client, pool: Pool, settings: Settings, project: int, conn: redis.Redis
) -> None:
    """The queued job goes away with it; a second click finds nothing and says so."""
    request_training(pool, project, cause="cli")
    assert enqueue_rounds(pool, conn, project, settings)
    request_training(pool, project, cause="button")
    assert training_queue(conn).count == 1
    said = press(web, "cancel")
    assert "Training 1 is cancelled; its process has ended. Withdrawn: 1 request for a training." in said
    assert "Cancel the training" not in said
    assert training_queue(conn).count == 0
    with pool.read() as session:
        assert session.scalars(select(Round.reason)).all() == ["cancelled by the dashboard"]
    again = web.post("/work/cancel", data={"project": "7"}, headers=HTMX)
    assert again.status_code == 409
    assert "No training of project 7 (Breast ultrasound) is queued or running" in again.text


def test_another_training_than_the_one_that_was_meant_is_not_cancelled(
    web: httpx.Client, pool: Pool, settings: Settings, project: int, conn: redis.Redis
) -> None:
    """It ended while the question stood on the page, or the one that was only asked for has begun."""

    def fields() -> dict[str, str]:
        form = web.get("/work").text.split('action="/work/cancel"')[1].split("</form>")[0]
        return dict(re.findall(r'name="(project|round)" value="(\d+)"', form))

    request_training(pool, project, cause="cli")
    wished = fields()
    assert wished == {"project": "7", "round": "0"}
    assert enqueue_rounds(pool, conn, project, settings)
    wait_until("another button", lambda: fields()["round"] == "1")
    meant = fields()
    with pool.write() as session:
        session.get_one(Round, 1).state = "failed"
    request_training(pool, project, cause="button")
    assert enqueue_rounds(pool, conn, project, settings)
    for old, before in ((meant, "Training 1 has ended meanwhile"), (wished, "No training was open before")):
        refused = web.post("/work/cancel", data=old, headers=HTMX)
        assert refused.status_code == 409
        assert f"{before}, and training 2 is open now. Nothing was cancelled." in refused.text
    assert web.post("/work/cancel", data={"project": "7", "round": "x"}).status_code == 400
    with pool.read() as session:
        assert session.get_one(Round, 2).state == "queued"
    assert web.post("/work/cancel", data={"project": "7", "round": "2"}, headers=HTMX).status_code == 200
    with pool.read() as session:
        assert session.get_one(Round, 2).state == "cancelled"


def test_nobody_else_presses(web: httpx.Client, pool: Pool, settings: Settings, project: int) -> None:
    """A reader sees no button and is refused; a form without a project is no form."""
    password = add_reader(settings.home)
    with httpx.Client(base_url=web.base_url, auth=("reader", password)) as reader:
        page = reader.get("/work")
        assert page.status_code == 200
        assert "<button" not in page.text.split("<main")[1]
        for name in ("train", "pause", "resume", "cancel"):
            assert reader.post(f"/work/{name}", data={"project": "7"}).status_code == 403
    lead = httpx.BasicAuth("maskloop", load_credentials(settings.home).password)
    assert web.post("/work/train", auth=lead).status_code == 400
    assert web.post("/work/train", auth=lead, data={"project": "99"}).status_code == 404
    assert web.get("/work/train", auth=lead).status_code == 405
    with pool.read() as session:
        assert session.scalars(select(TrainRequest.id)).all() == []


def test_buttons_work_without_scripts(web: httpx.Client, pool: Pool, project: int) -> None:
    answer = web.post("/work/pause", data={"project": "7"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/work?project=7")
    assert "schedule paused" in web.get(answer.headers["location"]).text


def test_buttons_are_sent_again_only_when_they_change(web: httpx.Client, pool: Pool, project: int) -> None:
    """Or a click could meet a button that is just being replaced."""
    shown = re.search(r'id="shown" name="shown" value="(\w+)"', web.get("/work").text)
    assert shown is not None
    live = "/work/live?project=7&shown="
    assert "hx-swap-oob" not in web.get(live + shown[1]).text
    request_training(pool, project, cause="cli")
    wait_until("other buttons", lambda: 'hx-swap-oob="innerHTML:#actions"' in web.get(live + shown[1]).text)
    assert "Cancel the training" in web.get(live + shown[1]).text


def test_a_site_without_projects_says_what_to_do(pool: Pool, settings: Settings) -> None:
    settings.redis_url = "redis://127.0.0.1:1/0"
    with serving(pool, settings) as web:
        assert "No project is connected yet" in web.get("/work").text
        assert web.get("/work/live").status_code == 404


def test_failures_come_with_what_to_do(
    pool: Pool, settings: Settings, project: int, conn: redis.Redis, shared_valkey: Valkey
) -> None:
    found = look(pool, settings, project, read_queues(conn))
    assert [each.what for each in found.failures] == [
        "No worker takes jobs of the queue gpu",
        "No worker takes jobs of the queue training",
    ]
    request_training(pool, project, cause="cli")
    assert start_due_round(pool, project, settings) == 1
    with pool.write() as session:
        row = session.get_one(Project, project)
        row.looked_at, row.sync_error = utcnow() - timedelta(hours=1), "the token is refused"
        session.add(Task(project_id=project, ls_id=900, url="/x", state="failed", error="it is no image"))
        (wanted,) = session.scalars(select(Round))
        wanted.failures, wanted.reason = 2, "MemoryError: 3 GB"
        wanted.retry_at = utcnow() + timedelta(minutes=5)
    failures = look(pool, settings, project, Queues(down="refused")).failures
    assert [(each.what.split(":")[0], each.message) for each in failures] == [
        ("Redis does not answer", "refused"),
        ("sync cannot go through this project", "the token is refused"),
        ("Training 1 failed 2 times", "MemoryError: 3 GB"),
        ("The image of task 900 cannot be used", "it is no image"),
    ]
    assert all(each.fix for each in failures)
    with pool.write() as session:
        wanted = session.get_one(Round, 1)
        wanted.state, wanted.ended_at = "failed", utcnow()
        session.get_one(Project, project).sync_error = None
        session.add(TrainRequest(project_id=project, cause="cli", refused="there is no label"))
        for number in range(6):
            session.add(Task(project_id=project, ls_id=901 + number, url="/x", state="failed", error="cut short"))
    said = [each.what for each in look(pool, settings, project, Queues()).failures]
    assert said[0].startswith("sync has not looked at this project for a while")
    assert said[1:3] == [
        "Training 1 failed 2 times and was given up",
        "The training that was asked for by the command line was not started",
    ]
    assert said[-1] == "2 more images cannot be used"


def test_a_wish_that_was_refused_is_told_until_a_training_comes(pool: Pool, settings: Settings, project: int) -> None:
    """Whoever asked has what they wanted then."""
    with pool.write() as session:
        session.add(TrainRequest(project_id=project, cause="button", refused="there is no label"))
    what = "The training that was asked for by the button in Label Studio was not started"
    assert what in [each.what for each in look(pool, settings, project, Queues()).failures]
    settings.trigger_labels = 5
    assert start_due_round(pool, project, settings) == 1
    assert [each.what for each in look(pool, settings, project, Queues()).failures] == []


def test_images_that_could_not_be_predicted_are_not_cut_in_silence(
    pool: Pool, settings: Settings, project: int
) -> None:
    """The newest are named, and that there are more; images of deleted tasks take nobody's place."""
    with pool.write() as session:
        for task in session.scalars(select(Task).order_by(Task.id)):
            at = {"version_id": VERSION, "image_digest": task.image_digest}
            session.add(Prediction(**at, error=f"no memory for {task.ls_id}"))
            session.flush()
            if task.ls_id > 8:
                task.deleted_at = utcnow()
    named = [f"The image of task {number} could not be predicted" for number in (8, 7, 6, 5, 4)]
    failures = look(pool, settings, project, Queues()).failures
    assert [each.what for each in failures] == [*named, "More images could not be predicted"]
    assert failures[0].message == "no memory for 8"
    with pool.write() as session:
        for task in session.scalars(select(Task).where(Task.ls_id < 4)):
            task.deleted_at = utcnow()
    assert [each.what for each in look(pool, settings, project, Queues()).failures] == named


def test_jobs_of_the_project_are_told_apart(pool: Pool, settings: Settings, project: int, conn: redis.Redis) -> None:
    enqueue_rank(conn, VERSION, "ab" * 32)
    enqueue_score(conn, VERSION, "cd" * 32)
    enqueue_score(conn, "maskloop-other", "cd" * 32)
    enqueue_embedding(conn, project, "ab" * 32, "nano")
    found = look(pool, settings, project, read_queues(conn))
    assert {stage.name: stage.waiting for stage in found.stages} == {
        "Images fetched": 0,
        "Ranked by uncertainty": 1,
        "Masks drawn": 1,
        "Compared with each other": 1,
        "Masks in Label Studio": 0,
    }
    drawn = next(stage for stage in found.stages if stage.name == "Masks drawn")
    assert (drawn.done, drawn.of, drawn.is_done) == (6, 10, False)
    assert found.owners == {VERSION: "Breast ultrasound", f"project{project}": "Breast ultrasound"}


def test_events_are_told_in_words(pool: Pool, project: int) -> None:
    """Labels in a row are one line; a kind or data that is not known is no error; other projects' stay away."""
    other = add_project(pool, ls_id=8)
    with pool.write() as session:
        record(session, "schedule.paused", project_id=project, data={"by": "a test"})
        for number in range(3):
            record(session, "label.taken", project_id=project, subject=str(number), data={"task": number})
            session.flush()
        record(session, "round.failed", project_id=project, subject="4", data={"reason": "no memory"})
        record(session, "label.taken", project_id=other, data={"task": 1})
        record(session, "disk.low.over", data={"seconds": 3})
        record(session, "some.new_kind", project_id=project, subject="x")
    with pool.read() as session:
        found = read_happenings(session, project)
    assert [(each.words, each.detail, each.times) for each in found[:5]] == [
        ("Some new kind (x)", "", 1),
        ("Over: the disk is nearly full", "", 1),
        ("Training 4 failed", "no memory", 1),
        ("3 labels were taken in", "", 3),
        ("The schedule was paused by a test", "", 1),
    ]
    assert tell(Event(kind="label.taken", subject="1", data={}, at=utcnow())).words == "Label taken (1)"


def test_what_is_costly_is_found_out_rarely() -> None:
    """What took so long is kept for twenty times as long, each key by itself, unless it is forgotten."""
    kept: Kept[int] = Kept(share=0.05)
    made: list[int] = []

    def slow() -> int:
        time.sleep(0.1)
        made.append(len(made))
        return made[-1]

    started = time.monotonic()
    assert kept.get("a", slow) == 0
    cost = time.monotonic() - started
    assert [kept.get("a", slow) for _ in range(20)] == [0] * 20
    assert kept.get("b", slow) == 1
    kept.forget("a")
    assert kept.get("a", slow) == 2
    wait_until("found out anew", lambda: kept.get("a", slow) > 2, min(LONGEST, 20 * cost) + 10)


def test_what_is_forgotten_while_it_is_found_out_is_not_kept() -> None:
    """Somebody changed it meanwhile: who asked gets what was found, the next one finds out anew."""
    kept: Kept[str] = Kept()

    def changed() -> str:
        kept.forget("a")
        time.sleep(0.05)
        return "before"

    assert kept.get("a", changed) == "before"
    assert kept.get("a", lambda: "after") == "after"


def test_nobody_waits_for_what_was_there_before() -> None:
    """One thread finds out anew, slowly; another gets the old value at once."""
    kept: Kept[str] = Kept(share=1.0)
    assert kept.get("a", lambda: "old") == "old"
    time.sleep(LONGEST / 10)
    begun, go = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        go.wait(5)
        return "new"

    thread = threading.Thread(target=lambda: kept.get("a", slow))
    thread.start()
    assert begun.wait(5)
    assert kept.get("a", lambda: "never asked") == "old"
    go.set()
    thread.join(5)
    assert kept.get("a", lambda: "newer") in ("new", "newer")
