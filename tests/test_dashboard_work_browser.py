"""The page of work in a browser: every button clicked, what follows seen in pool and Redis, and looks of all kinds."""

import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser_fixture import picture_folder
from dashboard_fixture import Site, make_site
from dashboard_pages import NARROW, WIDE, check_access, open_page, settle
from sqlalchemy import select
from valkey_fixture import Valkey
from web_fixture import serving

from maskloop_backend.sync.work import enqueue_rounds
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project, Round, Task, TrainRequest, utcnow
from maskloop_learner.pool.snapshot import freeze_snapshot
from maskloop_learner.settings import Settings
from maskloop_queue.gpu import GpuWorker
from maskloop_queue.jobs import fetch
from maskloop_queue.processes import Beat
from maskloop_queue.queues import enqueue_rank, enqueue_score, gpu_queue, score_job_id, training_queue
from maskloop_queue.triggers import request_training
from maskloop_queue.valkey import redis_url

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


@pytest.fixture
def made(pool: Pool, settings: Settings, shared_valkey: Valkey) -> Site:
    """A small pool with two trainings that have ended, and a queue with a worker that is busy."""
    settings.redis_url, settings.trigger_labels = redis_url(shared_valkey.settings), 10
    found = make_site(pool)
    past = utcnow() - timedelta(hours=5)
    ends = (
        ("rejected", "mean Dice is 0.021 lower, which is more than the margin of 0.010"),
        ("promoted", "mean Dice is 0.034 higher (0.011 to 0.058)"),
    )
    snapshot = freeze_snapshot(pool, found.project, share=0.2)
    with pool.write() as session:
        session.get_one(Project, found.project).looked_at = utcnow()
        for number, (state, reason) in enumerate(ends):
            began = past + timedelta(hours=2 * number)
            row = Round(project_id=found.project, snapshot_id=snapshot, cause="labels", state=state, reason=reason)
            row.created_at, row.started_at, row.ended_at = began, began, began + timedelta(minutes=14)
            row.progress, row.attempts = {"step": 1200, "steps": 1200, "loss": 0.2, "eta": 0.0}, 1
            session.add(row)
        session.get_one(Task, found.tasks[20]).state = "new"
        digests = [session.get_one(Task, task).image_digest or "" for task in found.tasks[10:20]]
    conn = shared_valkey.connect()
    for digest in digests:
        enqueue_score(conn, found.version, digest)
        enqueue_rank(conn, found.version, digest)
    worker = GpuWorker(
        gpu_queue(conn), name="gpu-scanner-4711-x", settings=settings, beat=Beat.of_process(), stop=threading.Event()
    )
    worker.lease = 600
    worker.heartbeat()
    job = fetch(conn, score_job_id(found.version, digests[0]))
    assert job is not None
    conn.lrem(gpu_queue(conn).key, 1, job.id)
    worker.prepare_execution(job)
    return found


@pytest.fixture
def address(pool: Pool, settings: Settings, made: Site) -> Iterator[str]:
    """Where the dashboard is."""
    with serving(pool, settings) as client:
        yield str(client.base_url).rstrip("/")


def run_round(pool: Pool, *, step: int) -> None:
    """What a training worker writes into the pool."""
    with pool.write() as session:
        row = session.scalars(select(Round).order_by(Round.id.desc())).first()
        assert row is not None
        row.state, row.started_at, row.attempts = "running", row.started_at or utcnow(), 1
        row.holder, row.held_until = "scanner 4711 abc def", utcnow() + timedelta(hours=1)
        row.progress = {"step": step, "steps": 1200, "loss": 0.31, "eta": 400.0}


def wait_told(page: "Page", words: str) -> None:
    """Until the note on top says so."""
    page.wait_for_function(f"() => document.querySelector('#notice').innerText.includes({words!r})")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_page_can_be_seen_and_read(
    browser: "Browser", address: str, pool: Pool, made: Site, shared_valkey: Valkey, settings: Settings,
    tmp_path: Path, size: Any, scheme: str,
) -> None:  # fmt: skip
    """At rest, while a training runs, and when Redis is away; no request leaves this server."""
    folder, named = picture_folder(tmp_path / "pictures"), f"{scheme}-{size['width']}"
    page, asked, said = open_page(browser, address, "/work", size=size, scheme=scheme)
    settle(page)
    # The caret stays: hiding it, Playwright leaves empty `style` attributes, which the policy then reports.
    page.screenshot(path=folder / f"work-rest-{named}.png", full_page=True, caret="initial")
    check_access(page)
    request_training(pool, made.project, cause="cli")
    assert enqueue_rounds(pool, shared_valkey.connect(), made.project, settings)
    run_round(pool, step=400)
    page.wait_for_selector("text=step 400 of 1,200")
    page.wait_for_selector("#cancel")
    page.screenshot(path=folder / f"work-runs-{named}.png", full_page=True, caret="initial")
    check_access(page)
    shared_valkey.stop(signal.SIGKILL)
    page.wait_for_selector("text=Redis does not answer: nothing is drawn")
    page.screenshot(path=folder / f"work-down-{named}.png", full_page=True, caret="initial")
    check_access(page)
    assert page.locator("text=step 400 of 1,200").is_visible(), "what the pool knows stays"
    assert all(each.startswith(address) for each in asked)
    assert said == []
    page.close()


def test_every_button_does_what_it_says(
    browser: "Browser", address: str, pool: Pool, made: Site, shared_valkey: Valkey, settings: Settings
) -> None:
    """By mouse and by keyboard; the focus stays where it is while the page looks again."""
    conn = shared_valkey.connect()
    page, _, said = open_page(browser, address, "/work")
    page.get_by_role("button", name="Pause the schedule").click()
    wait_told(page, "The schedule is paused")
    with pool.read() as session:
        assert session.get_one(Project, made.project).paused_at is not None
    page.get_by_role("button", name="Resume the schedule").press("Enter")
    wait_told(page, "start trainings again")
    with pool.read() as session:
        assert session.get_one(Project, made.project).paused_at is None
    page.get_by_role("button", name="Train now").click()
    wait_told(page, "A training is asked for")
    with pool.read() as session:
        assert session.scalars(select(TrainRequest.cause)).all() == ["dashboard"]
    assert enqueue_rounds(pool, conn, made.project, settings)
    assert training_queue(conn).count == 1
    page.wait_for_selector("text=waits for the training worker")
    page.get_by_role("button", name="Train now").focus()
    for step in (100, 200):
        run_round(pool, step=step)
        page.wait_for_selector(f"text=step {step} of 1,200")
    assert page.evaluate("() => document.activeElement.id") == "train"
    asked: list[str] = []

    def answer(dialog: Any) -> None:
        asked.append(dialog.message)
        dialog.accept() if len(asked) > 1 else dialog.dismiss()

    page.on("dialog", answer)
    page.get_by_role("button", name="Cancel the training").click()
    with pool.read() as session:
        assert "running" in session.scalars(select(Round.state)).all(), "whoever says no has changed nothing"
    page.get_by_role("button", name="Cancel the training").click()
    wait_told(page, "is cancelled; its process has ended")
    assert all(message.startswith("End training 3?") for message in asked)
    with pool.read() as session:
        assert session.scalars(select(Round.state).order_by(Round.id)).all() == ["rejected", "promoted", "cancelled"]
    assert training_queue(conn).count == 0
    page.wait_for_selector("#cancel", state="detached")
    assert said == []
    page.close()
