"""An annotator in a real browser: the mask is on the screen, is corrected, and the correction is learnt from."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_fixture import changed, logged_in, open_label_stream, open_task, region_rows, shoot, to_screen, toggle
from demo_fixture import Demo, wait_for
from drawing import iou
from playwright.sync_api import Browser, Page
from sqlalchemy import select

from maskloop_backend.demo.host import load_account
from maskloop_learner.pool.masks import Mask, decode_mask
from maskloop_learner.pool.queries import current_version, prediction_for, scores_of
from maskloop_learner.pool.schema import Task

LABEL = "White matter"


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    """A page of the demo's user, logged in."""
    account = load_account(demo.home / "demo")
    with logged_in(browser, demo.url, account.email, account.password) as opened:
        yield opened


def predicted_mask(demo: Demo, ls_task: int, label: str) -> Mask:
    """The pool's mask of the current version."""
    pool = demo.pool
    with pool.read() as session:
        task = session.scalars(select(Task).where(Task.ls_id == ls_task)).one()
        version = current_version(session, task.project_id)
        prediction = prediction_for(session, str(version), str(task.image_digest), task.prompt_digest)
        assert prediction is not None
        digest = next(s.mask_digest for s in scores_of(session, [prediction.id])[prediction.id] if s.label == label)
    return decode_mask(pool.store.get("masks", digest))


@pytest.mark.slow
def test_the_mask_is_on_the_screen_and_its_correction_in_the_pool(page: Page, demo: Demo, tmp_path: Path) -> None:
    """Shown and hidden differ where the pool's mask is; a stroke that is added and submitted arrives as a label."""
    where = open_label_stream(page, demo.url, demo.ls_id)
    ls_task = open_task(page)
    mask = predicted_mask(demo, ls_task, LABEL)
    shown = shoot(page, where)
    toggle(page, LABEL)
    hidden = shoot(page, where)
    toggle(page, LABEL)
    agreement = iou(changed(shown, hidden), to_screen(mask, shown))
    page.screenshot(path=str(tmp_path / "shown.png"))
    print(f"task {ls_task}: IoU of what disappears with the pool's mask {agreement:.3f}")
    assert agreement >= 0.9

    # A stroke in the black corner, which no model would draw.
    region_rows(page, LABEL).first.click()
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
