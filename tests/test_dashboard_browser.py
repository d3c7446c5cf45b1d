"""The dashboard in a browser: every page, wide and narrow, light and dark, by keyboard, and without serious faults."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser_fixture import picture_folder
from dashboard_fixture import make_site
from web_fixture import CREDENTIALS, serving

from maskloop_learner.pool.pool import Pool
from maskloop_learner.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture
def site(pool: Pool, settings: Settings) -> Iterator[str]:
    """The dashboard over a small pool."""
    settings.redis_url = "redis://127.0.0.1:1/0"
    make_site(pool)
    with serving(pool, settings) as client:
        yield str(client.base_url).rstrip("/")


def open_page(browser: "Browser", site: str, *, size: Any, scheme: Any) -> tuple["Page", list[str], list[str]]:
    """A page that is logged in; the addresses that it asked for, and what its console said."""
    page = browser.new_page(viewport=size, color_scheme=scheme)
    page.set_default_timeout(60_000)
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{site}/images")
    assert "/login" in page.url
    page.fill("#password", CREDENTIALS.password)
    page.keyboard.press("Enter")
    page.wait_for_selector(".card")
    return page, asked, said


def settle(page: "Page") -> None:
    """Wait until all pictures on the screen are there."""
    page.wait_for_load_state("networkidle")
    below = "i.loading === 'lazy' && i.getBoundingClientRect().top > innerHeight"
    page.wait_for_function(f"() => [...document.images].every(i => i.complete || {below})")


def check_access(page: "Page") -> None:
    """No serious or critical finding of axe-core, and nothing wider than the screen."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    found = axe.Axe().run(page).response["violations"]
    serious = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]
    assert serious == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"


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
