"""An annotator in a real browser: the mask is on the screen, is corrected, and the correction is learnt from."""

import io
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from demo_fixture import Demo, wait_for
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from sqlalchemy import select

from maskloop_backend.demo.host import load_account
from maskloop_learner.pool.masks import Mask, decode_mask
from maskloop_learner.pool.queries import current_version, prediction_for, scores_of
from maskloop_learner.pool.schema import Task

LABEL = "White matter"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
Rectangle = dict[str, float]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium of this machine."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine: run `make test-slow` as root, or install it")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    """A page of the demo's user, logged in."""
    account = load_account(demo.home / "demo")
    opened = browser.new_page(viewport={"width": 1400, "height": 1000})
    opened.set_default_timeout(60_000)
    opened.goto(f"{demo.url}/user/login/")
    opened.fill("input[name=email]", account.email)
    opened.fill("input[name=password]", account.password)
    opened.click("button[type=submit]")
    opened.wait_for_url(lambda url: "/user/login" not in url)
    yield opened
    opened.close()


def open_label_stream(page: Page, demo: Demo) -> Rectangle:
    """Press Label All Tasks; returns where the image is on the screen, in pixels."""
    page.goto(f"{demo.url}/projects/{demo.ls_id}/data")
    page.get_by_text("Label All Tasks").first.click()
    page.wait_for_selector("canvas")
    page.wait_for_selector(".lsf-outliner-item__control_type_visibility", state="attached")
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


def shoot(page: Page, where: Rectangle) -> NDArray[np.int16]:
    """The pixels of a rectangle of the screen, [H, W, 3]."""
    page.mouse.move(5, 5)
    page.wait_for_timeout(800)
    with Image.open(io.BytesIO(page.screenshot(clip=where))) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16)


def region_row(page: Page, label: str) -> Locator:
    """The line of the first region of a label in the list of regions."""
    return page.locator(".lsf-outliner-item", has_text=label).first


def toggle(page: Page, label: str) -> None:
    """Show or hide the region of a label with its eye."""
    row = region_row(page, label)
    row.hover()
    row.locator(".lsf-outliner-item__control_type_visibility button").click(force=True)


def open_task(page: Page) -> int:
    """Label Studio's id of the task on the screen."""
    return int(page.evaluate("() => window.Htx.task.id"))


def predicted_mask(demo: Demo, ls_task: int, label: str) -> Mask:
    """The pool's mask of the current version."""
    pool = demo.pool
    with pool.read() as session:
        task = session.scalars(select(Task).where(Task.ls_id == ls_task)).one()
        version = current_version(session, task.project_id)
        prediction = prediction_for(session, str(version), str(task.image_digest))
        assert prediction is not None
        digest = next(s.mask_digest for s in scores_of(session, [prediction.id])[prediction.id] if s.label == label)
    return decode_mask(pool.store.get("masks", digest))


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union, 0..1."""
    return float((one & other).sum() / max(1, (one | other).sum()))


@pytest.mark.slow
def test_the_mask_is_on_the_screen_and_its_correction_in_the_pool(page: Page, demo: Demo, tmp_path: Path) -> None:
    """Shown and hidden differ where the pool's mask is; a stroke that is added and submitted arrives as a label."""
    where = open_label_stream(page, demo)
    ls_task = open_task(page)
    mask = predicted_mask(demo, ls_task, LABEL)
    shown = shoot(page, where)
    toggle(page, LABEL)
    hidden = shoot(page, where)
    toggle(page, LABEL)
    changed = np.abs(shown - hidden).max(axis=2) > 12
    size = (changed.shape[1], changed.shape[0])
    expected = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    agreement = iou(changed, expected)
    page.screenshot(path=str(tmp_path / "shown.png"))
    print(f"task {ls_task}: IoU of what disappears with the pool's mask {agreement:.3f}")
    assert agreement >= 0.9

    # A stroke in the black corner, which no model would draw.
    region_row(page, LABEL).click()
    y, x = where["y"] + where["height"] * 0.06, where["x"] + where["width"] * 0.06
    page.keyboard.press("b")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + where["width"] * 0.2, y, steps=12)
    page.mouse.up()
    page.wait_for_timeout(800)
    page.get_by_role("button", name="Submit").first.click()
    submitted = time.monotonic()
    wait_for("the label in the pool", lambda: demo.labels(ls_task), 10)
    print(f"in the pool {time.monotonic() - submitted:.1f} s after Submit")
    label = demo.labels(ls_task)[-1]
    assert label.error is None
    assert label.parent_prediction is not None
    drawn = decode_mask(demo.pool.store.get("masks", label.masks[LABEL]))
    height, width = drawn.shape
    corner = (slice(0, int(height * 0.12)), slice(int(width * 0.05), int(width * 0.27)))
    assert drawn[corner].sum() > 20, "the stroke is in the label"
    assert not mask[corner].any(), "and was not in the prediction"
    assert iou(drawn, mask) > 0.8, "the rest is as it was drawn before"
