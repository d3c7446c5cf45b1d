"""An annotator's browser: headless Chromium, the labelling page, and what is to be seen on it."""

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SEEN = 12
"""By how much of 255 a pixel must change to have changed at all."""
EYE = ".lsf-outliner-item__control_type_visibility"
Rectangle = dict[str, float]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Headless Chromium of this machine."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine: run `make test-slow` as root, or install it")
    from playwright.sync_api import sync_playwright  # every test run loads this module: only those that browse pay

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        yield running
        running.close()


@contextmanager
def logged_in(browser: "Browser", url: str, email: str, password: str) -> "Iterator[Page]":
    """A page of a user of a Label Studio."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(60_000)
    page.goto(f"{url}/user/login/")
    page.fill("input[name=email]", email)
    page.fill("input[name=password]", password)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/user/login" not in url)
    yield page
    page.close()


def open_label_stream(page: "Page", url: str, project: int) -> Rectangle:
    """Press Label All Tasks; returns where the image is on the screen, in pixels."""
    page.goto(f"{url}/projects/{project}/data")
    page.get_by_text("Label All Tasks").first.click()
    return stand_still(page)


def stand_still(page: "Page") -> Rectangle:
    """Wait until an image and its masks are painted; returns where the image is on the screen, in pixels."""
    page.wait_for_selector("canvas")
    page.wait_for_selector(EYE, state="attached")
    # The masks are decoded and painted after the image is there: wait until the picture stands still.
    picture = page.locator("img[src^='blob:'], img[src*='/data/upload/']").first
    before = b""
    for _ in range(40):
        page.wait_for_timeout(500)
        now = page.screenshot()
        if now == before:
            break
        before = now
    box = picture.bounding_box()
    assert box is not None
    return {"x": box["x"], "y": box["y"], "width": box["width"], "height": box["height"]}


def shoot(page: "Page", where: Rectangle) -> NDArray[np.int16]:
    """The pixels of a rectangle of the screen, [H, W, 3]."""
    page.mouse.move(5, 5)
    page.wait_for_timeout(800)
    with Image.open(io.BytesIO(page.screenshot(clip=where))) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16)


def drawn(
    shown: NDArray[np.int16], hidden: NDArray[np.int16], size: tuple[int, ...], *, outline: int = 0
) -> NDArray[np.bool_]:
    """The pixels of the image (`size`: height, width) most of whose area differs between two shots.

    Differs: by more than half of what is usual where they differ at all, since the page softens the edges of brush
    masks. `outline`: by so many pixels of the screen a polygon's outline reaches beyond its edge.
    """
    difference = np.abs(shown - hidden).max(axis=2)
    usual = np.median(difference[difference > SEEN]) if (difference > SEEN).any() else 2 * SEEN
    different = difference > usual / 2
    if outline:
        different = ndimage.binary_erosion(different, iterations=outline)
    area = Image.fromarray(different.astype(np.uint8) * 255).resize((size[1], size[0]), Image.Resampling.BOX)
    most: NDArray[np.bool_] = np.asarray(area) > 127
    return most


def region_rows(page: "Page", label: str) -> "Locator":
    """The lines of the regions of a label in the list of regions."""
    return page.locator(".lsf-outliner-item", has_text=label)


def toggle(page: "Page", label: str) -> None:
    """Show or hide all regions of a label with their eyes."""
    for row in region_rows(page, label).all():
        row.hover()
        row.locator(f"{EYE} button").click(force=True)


def hide_all(page: "Page") -> None:
    """Hide all regions, or show them again, with the eye above their list."""
    page.locator(".lsf-view-controls button").last.click()


def open_task(page: "Page") -> int:
    """Label Studio's id of the task on the screen."""
    return int(page.evaluate("() => window.Htx.task.id"))


def picture_folder(otherwise: Path) -> Path:
    """Where a test leaves its screenshots: $MASKLOOP_PICTURES, else the folder that is given."""
    folder = Path(os.environ.get("MASKLOOP_PICTURES") or otherwise)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
