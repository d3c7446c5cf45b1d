"""The report opened from disk without a network: it asks for nothing, is readable on any screen, and prints."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser_fixture import picture_folder
from dashboard_pages import NARROW, WIDE, check_access, settle
from pool_fixture import add_project
from report_fixture import START, make_history

from maskloop_backend.report.page import make_report
from maskloop_backend.report.writing import write_report
from maskloop_learner.pool.pool import Pool
from maskloop_learner.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

A4 = {"width": 695, "height": 1017}
"""Between the margins, in CSS's pixels."""


def open_file(browser: "Browser", file: Path, *, size: Any, scheme: Any) -> tuple["Page", list[str], list[str]]:
    """The file in a browser that is offline; the addresses that it asked for, and what its console said."""
    page = browser.new_context(offline=True, viewport=size, color_scheme=scheme).new_page()
    page.set_default_timeout(120_000)
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(file.as_uri())
    settle(page)
    return page, asked, said


@pytest.mark.parametrize("kind", ["full", "empty"])
def test_a_report_needs_nothing_but_itself(
    browser: "Browser", pool: Pool, settings: Settings, tmp_path: Path, kind: str
) -> None:
    """Wide and narrow, light and dark; every picture is drawn; the print has as many pages as it needs and no more."""
    folder = picture_folder(tmp_path / "pictures")
    project = make_history(pool).project if kind == "full" else add_project(pool)
    file = tmp_path / f"report-{kind}.html"
    write_report(file, make_report(pool, settings, project, now=START + timedelta(days=9)), force=False)
    for scheme, size in (("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)):
        page, asked, said = open_file(browser, file, size=size, scheme=scheme)
        page.screenshot(path=folder / f"report-{kind}-{scheme}-{size['width']}.png", full_page=True)
        check_access(page)
        assert {address for address in asked if not address.startswith("data:")} == {file.as_uri()}
        assert said == []
        assert page.evaluate("() => [...document.images].every(i => i.naturalWidth > 0)")
        for name in ("progress", "model", "coming"):
            page.click(f".report-contents a[href='#{name}']")
            page.wait_for_function(f"() => document.querySelector('#{name}').getBoundingClientRect().top < innerHeight")
        page.context.close()
    page, _, _ = open_file(browser, file, size=WIDE, scheme="dark")
    page.pdf(path=folder / f"report-{kind}.pdf", prefer_css_page_size=True)
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size(A4)
    page.screenshot(path=folder / f"report-{kind}-print.png", full_page=True)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), "it is wider than the paper"
    # What is printed is dark on white, whatever the screen is.
    ink = page.evaluate("() => getComputedStyle(document.body).color")
    assert sum(int(part) for part in ink.removeprefix("rgb(").removesuffix(")").split(",")) < 250
    assert page.locator(".report-contents").is_hidden()
    page.context.close()
