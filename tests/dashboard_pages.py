"""A dashboard in a browser: a site with a small pool, a page that is logged in, and what every page must hold."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from dashboard_fixture import make_site
from web_fixture import CREDENTIALS, serving

from maskloop_learner.pool.pool import Pool
from maskloop_learner.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture
def site(pool: Pool, settings: Settings) -> Iterator[str]:
    """The address of a dashboard over a small pool, without a queue."""
    settings.redis_url = "redis://127.0.0.1:1/0"
    make_site(pool)
    with serving(pool, settings) as client:
        yield str(client.base_url).rstrip("/")


def open_page(
    browser: "Browser",
    site: str,
    path: str = "/images",
    *,
    size: Any = WIDE,
    scheme: Any = "light",
    password: str = CREDENTIALS.password,
) -> tuple["Page", list[str], list[str]]:
    """The page at `path`, logged in; the addresses that it asked for, and what its console said."""
    page = browser.new_page(viewport=size, color_scheme=scheme)
    page.set_default_timeout(60_000)
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{site}{path}")
    assert "/login" in page.url
    page.fill("#password", password)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda address: "/login" not in address)
    page.wait_for_selector("main")
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
