"""The dashboard in a browser: every page, wide and narrow, light and dark, by keyboard, and without serious faults."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser_fixture import picture_folder
from dashboard_pages import NARROW, WIDE, check_access, open_page, settle
from web_fixture import CREDENTIALS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_page_can_be_seen_and_used(browser: "Browser", site: str, tmp_path: Path, size: Any, scheme: str) -> None:
    folder = picture_folder(tmp_path / "pictures")
    page, asked, said = open_page(browser, site, size=size, scheme=scheme)
    named = f"{scheme}-{size['width']}"
    settle(page)
    page.screenshot(path=folder / f"images-{named}.png")
    check_access(page)
    assert page.locator(".count").inner_text() == "20 images"
    page.locator(".card a.shot").first.click()
    page.wait_for_selector("#side[open] .view")
    settle(page)
    page.screenshot(path=folder / f"side-{named}.png")
    check_access(page)
    page.keyboard.press("Escape")
    page.wait_for_selector("#side:not([open])", state="attached")
    assert page.evaluate("() => document.activeElement.matches('.card a.shot')"), "back where one came from"
    page.uncheck("#show-heat")
    assert page.locator(".grid .heat").first.is_hidden()
    page.select_option("#state", "labelled")
    page.wait_for_function("() => document.querySelectorAll('.card').length === 2")
    assert "state=labelled" in page.url
    page.fill("#group", "nobody")
    page.keyboard.press("Tab")
    page.wait_for_selector(".empty")
    page.screenshot(path=folder / f"empty-{named}.png")
    page.goto(f"{site}/")
    settle(page)
    page.screenshot(path=folder / f"projects-{named}.png")
    check_access(page)
    page.goto(f"{site}/nowhere")
    page.screenshot(path=folder / f"error-{named}.png")
    check_access(page)
    said = [text for text in said if "404" not in text]
    page.goto(f"{site}/")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_selector("#password")
    page.screenshot(path=folder / f"login-{named}.png")
    check_access(page)
    assert all(address.startswith(site) for address in asked), "nothing is asked of another server"
    assert said == []
    page.close()


def test_the_keyboard_alone_reaches_everything(browser: "Browser", site: str) -> None:
    """Skip link first; then navigation, filters and cards; the theme stays chosen; arrows go through the images."""
    page, _, _ = open_page(browser, site, size=WIDE, scheme="light")
    page.goto(f"{site}/images")
    page.wait_for_selector(".card")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"
    seen: set[str] = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("() => document.activeElement.id || document.activeElement.className"))
        assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert {"state", "by", "label", "batch", "group", "show-outline", "show-heat", "shot"} <= seen
    page.get_by_role("button", name="Light or dark").press("Enter")
    page.reload()
    assert page.evaluate("() => document.documentElement.dataset.theme") == "dark"
    page.locator(".card a.shot").first.press("Enter")
    page.wait_for_selector("#side[open] .view")
    first = page.locator("#side-title").inner_text()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"() => document.querySelector('#side-title').innerText !== {first!r}")
    page.close()


def test_an_address_with_a_token_logs_in_and_forgets_it(browser: "Browser", site: str) -> None:
    page = browser.new_page()
    page.goto(f"{site}/login#token={CREDENTIALS.password}")
    page.wait_for_selector("h1:has-text('Projects')")
    assert CREDENTIALS.password not in page.url
    page.close()
