"""The page of batches in a browser: chosen, looked through, exported and ended with a click, wide and narrow."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser_fixture import picture_folder
from dashboard_fixture import make_site
from dashboard_pages import NARROW, WIDE, check_access, open_page, settle
from sqlalchemy import select
from valkey_fixture import Valkey
from web_fixture import serving

from maskloop_backend.credentials import add_reader
from maskloop_learner.pool.batches import end_batch, find_batch
from maskloop_learner.pool.members import members
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Batch, Project
from maskloop_learner.settings import Settings
from maskloop_queue.connection import connect
from maskloop_queue.wake import wait_for_wake

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


@pytest.fixture
def free(pool: Pool, settings: Settings, valkey: Valkey) -> Iterator[str]:
    """A dashboard over a small pool whose one batch has ended, with a queue."""
    site = make_site(pool)
    with pool.write() as session:
        end_batch(session, find_batch(session, site.project), "closed", by="sync", why="no image of it waits")
    with serving(pool, settings) as client:
        yield str(client.base_url).rstrip("/")


def state_of(pool: Pool, number: int) -> str:
    with pool.read() as session:
        project = session.scalars(select(Project)).one()
        return find_batch(session, project.id, number).state


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_batch_is_chosen_and_ended_with_clicks(
    browser: "Browser", free: str, pool: Pool, settings: Settings, tmp_path: Path, size: Any, scheme: str
) -> None:
    """Every action is clicked, and its effect stands in the pool and in the hint to sync."""
    folder, named = picture_folder(tmp_path / "pictures"), f"{scheme}-{size['width']}"
    page, asked, said = open_page(browser, free, "/batches", size=size, scheme=scheme)
    settle(page)
    page.screenshot(path=folder / f"batches-{named}.png", full_page=True)
    check_access(page)
    page.fill("#size", "500")
    page.get_by_role("button", name="Show what would come").click()
    page.wait_for_selector("#notice .notice")
    assert "images chosen of 500 asked for" in page.locator("#notice").inner_text()
    assert page.locator("#notice").evaluate("each => each.getBoundingClientRect().top >= 0"), "it can be seen"
    page.screenshot(path=folder / f"batches-refused-{named}.png")
    page.fill("#size", "6")
    page.fill("#random_share", "0")
    page.get_by_role("button", name="Show what would come").click()
    page.wait_for_selector(".preview .member")
    assert page.locator(".preview .member").count() == 6
    assert page.locator("#notice").inner_text() == ""
    settle(page)
    page.screenshot(path=folder / f"batches-preview-{named}.png", full_page=True)
    check_access(page)
    would = page.locator(".preview .member .name").all_inner_texts()
    page.locator(".preview a.shot").first.click()
    page.wait_for_selector("#side[open] .view")
    page.keyboard.press("Escape")
    page.get_by_role("radio", name="random", exact=False).first.check()
    assert page.locator(".preview").count() == 0, "it was true of another choice"
    page.get_by_role("radio", name="uncertainty", exact=False).first.check()
    page.get_by_role("button", name="Lock the batch").click()
    page.wait_for_url("**/batches/2?project=7")
    assert wait_for_wake(connect(settings), 1.0) == {7}
    settle(page)
    page.screenshot(path=folder / f"batch-{named}.png", full_page=True)
    check_access(page)
    assert page.locator(".members .name").all_inner_texts() == would
    with pool.read() as session:
        batch = session.scalars(select(Batch).where(Batch.number == 2)).one()
        rows = members(session, batch)
    assert [
        f"Task {row.ls_id}" in text for row, text in zip(rows, page.locator(".member").all_inner_texts(), strict=True)
    ]
    page.locator(".member a.shot").first.click()
    page.wait_for_selector("#side[open] .view")
    first = page.locator("#side-title").inner_text()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"() => document.querySelector('#side-title').innerText !== {first!r}")
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.get_by_role("link", name="JSON").click()
    exported = json.loads(Path(download.value.path()).read_text())
    assert [item["task"] for item in exported["items"]] == [row.ls_id for row in rows]
    page.get_by_role("button", name="Undo …").click()
    page.wait_for_selector("#ask[open] .question")
    settle(page)
    page.screenshot(path=folder / f"batch-ask-{named}.png")
    check_access(page)
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_selector("#ask:not([open])", state="attached")
    assert page.evaluate("() => document.activeElement.id") == "undo-batch", "back where one came from"
    assert state_of(pool, 2) == "open"
    page.get_by_role("button", name="Close …").click()
    page.wait_for_selector("#ask[open] .question")
    page.get_by_role("button", name="Close the batch").click()
    page.wait_for_selector(".heading .badge:has-text('closed')")
    assert state_of(pool, 2) == "closed"
    assert wait_for_wake(connect(settings), 1.0) == {7}
    page.goto(f"{free}/batches?project=7")
    page.fill("#size", "4")
    page.get_by_role("button", name="Lock the batch").press("Enter")
    page.wait_for_url("**/batches/3?project=7")
    page.goto(f"{free}/batches?project=7")
    settle(page)
    page.screenshot(path=folder / f"batches-open-{named}.png", full_page=True)
    check_access(page)
    page.goto(f"{free}/batches/3?project=7")
    page.get_by_role("button", name="Undo …").press("Space")
    page.wait_for_selector("#ask[open] .question")
    page.get_by_role("button", name="Undo the batch").press("Enter")
    page.wait_for_selector(".heading .badge:has-text('undone')")
    assert state_of(pool, 3) == "undone"
    assert all(address.startswith(free) for address in asked), "nothing is asked of another server"
    assert [text for text in said if "409" not in text] == []
    page.close()


def test_a_reader_sees_the_batches_and_no_buttons(
    browser: "Browser", site: str, settings: Settings, tmp_path: Path
) -> None:
    page, _, said = open_page(browser, site, "/batches", size=WIDE, scheme="light", password=add_reader(settings.home))
    settle(page)
    page.screenshot(path=picture_folder(tmp_path / "pictures") / "batches-reader.png")
    check_access(page)
    assert page.locator("#batch-form").count() == 0
    page.get_by_role("link", name="Batch 1").click()
    page.wait_for_selector(".member")
    assert page.locator("main button").count() == 0
    assert page.get_by_role("button", name="Close").count() == 0
    assert said == []
    page.close()
