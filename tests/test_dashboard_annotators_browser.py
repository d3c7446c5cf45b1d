"""The page of annotators in a browser: wide and narrow, light and dark, by keyboard, with its period and download."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser_fixture import picture_folder
from dashboard_pages import NARROW, WIDE, check_access, open_page, settle
from people_fixture import add_team
from pool_fixture import add_project
from web_fixture import serving

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project, utcnow
from maskloop_learner.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


@pytest.fixture
def team(pool: Pool, settings: Settings) -> Iterator[str]:
    """The dashboard over a team's labels of forty days."""
    settings.redis_url = "redis://127.0.0.1:1/0"
    project = add_project(pool, labels=("Tumor", "Cyst"))
    with pool.write() as session:
        session.get_one(Project, project).title = "Breast ultrasound"
    add_team(pool, project, now=utcnow())
    with serving(pool, settings) as client:
        yield str(client.base_url).rstrip("/")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_page_can_be_seen_and_used(browser: "Browser", team: str, tmp_path: Path, size: Any, scheme: str) -> None:
    """The alarm, tables and charts; another period; the table as a file; no request elsewhere."""
    folder = picture_folder(tmp_path / "pictures")
    page, asked, said = open_page(browser, team, "/annotators", size=size, scheme=scheme)
    settle(page)
    page.screenshot(path=folder / f"annotators-{scheme}-{size['width']}.png", full_page=True)
    check_access(page)
    assert page.locator(".people-alarm").count() == 1, "both questions found the same person"
    assert page.locator(".people-alarm p").count() == 3
    before = page.locator(".figure strong").first.inner_text()
    page.select_option("#period", "7")
    page.wait_for_url(lambda address: "period=7" in address)
    settle(page)
    after = page.locator(".figure strong").first.inner_text()
    assert int(after) < int(before)
    check_access(page)
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download as CSV").click()
    with Path(waiting.value.path()).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["labels"] == after
    assert all(address.startswith(team) for address in asked)
    assert said == []
    page.close()


def test_tables_and_period_are_reached_by_keyboard(browser: "Browser", team: str) -> None:
    """Wide tables scroll inside their own box, which the keyboard reaches."""
    page, _, _ = open_page(browser, team, "/annotators", size=NARROW)
    seen: set[str] = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("() => document.activeElement.id || document.activeElement.getAttribute('aria-label')"))
    assert {"period", "Table of annotators", "Table of time per annotation", "Table of Dice by label"} <= seen
    box = page.get_by_role("region", name="Table of annotators")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth"), "it scrolls in its box"
    page.close()
