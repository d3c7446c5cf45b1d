"""An annotator in a real browser: the mask is on the screen, is corrected, and the correction is learnt from."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_fixture import (
    drawn,
    logged_in,
    open_label_stream,
    open_task,
    picture_folder,
    region_rows,
    shoot,
    stand_still,
    toggle,
)
from demo_fixture import Demo, wait_for
from drawing import iou
from playwright.sync_api import Browser, Page

from maskloop_backend.demo.host import load_account
from maskloop_learner.pool.masks import decode_mask

ROOT = Path(__file__).resolve().parents[1]
LABEL, OTHER = "White matter", "Grey matter"


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    """A page of the demo's user, logged in."""
    account = load_account(demo.home / "demo")
    with logged_in(browser, demo.url, account.email, account.password) as opened:
        yield opened


@pytest.mark.slow
def test_the_mask_is_on_the_screen_and_its_correction_in_the_pool(page: Page, demo: Demo, tmp_path: Path) -> None:
    """Shown and hidden differ where the pool's mask is; a stroke that is added and submitted arrives as a label."""
    where = open_label_stream(page, demo.url, demo.ls_id)
    ls_task = open_task(page)
    mask = demo.predicted(ls_task)[LABEL]
    shown = shoot(page, where)
    toggle(page, LABEL)
    hidden = shoot(page, where)
    toggle(page, LABEL)
    agreement = iou(drawn(shown, hidden, mask.shape), mask)
    page.screenshot(path=picture_folder(tmp_path) / "shown.png")
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
    wait_for("the label in the pool", lambda: demo.live(ls_task), 10)
    print(f"in the pool {time.monotonic() - submitted:.1f} s after Submit")
    label = demo.live(ls_task)[-1]
    assert label.error is None
    assert label.parent_prediction is not None
    label_mask = decode_mask(demo.pool.store.get("masks", label.masks[LABEL]))
    height, width = label_mask.shape
    corner = (slice(0, int(height * 0.12)), slice(int(width * 0.05), int(width * 0.27)))
    assert label_mask[corner].sum() > 20, "the stroke is in the label"
    assert not mask[corner].any(), "and was not in the prediction"
    assert iou(label_mask, mask) > 0.8, "the rest is as it was drawn before"


@pytest.mark.slow
def test_a_typed_prompt_draws_a_suggestion_that_is_accepted_and_kept(page: Page, demo: Demo, tmp_path: Path) -> None:
    """Two prompts in a row: the last one's masks are on the screen and in the pool, in place of those before."""
    open_label_stream(page, demo.url, demo.ls_id)
    ls_task = open_task(page)
    before = demo.predicted(ls_task)
    page.get_by_text("Auto-Annotation").click()
    for number, text in enumerate(("bright folds", f"{LABEL}: thin bands")):
        page.get_by_placeholder("What to look for").fill(text)
        # The tool bars may cover the button.
        page.get_by_role("button", name="Add").evaluate("button => button.click()")
        page.get_by_text(f"{len(before)} suggestions").wait_for()
        page.get_by_role("button", name="Add").evaluate("button => button.scrollIntoView()")
        page.wait_for_timeout(1000)
        page.screenshot(path=picture_folder(tmp_path) / f"typed-{number}.png")
        page.locator("[data-testid=bottombar-accept-suggestions-button]").click()
        page.get_by_text(f"{len(before)} suggestions").wait_for(state="detached")
        assert region_rows(page, LABEL).count() == 1, "the suggestion is in the place of the mask before"
    typed = {LABEL: "thin bands", OTHER: f"{OTHER.lower()}, bright folds"}
    assert demo.task(ls_task).typed_prompts == typed
    masks = demo.predicted(ls_task)
    assert any((masks[label] != before[label]).any() for label in masks), "other words draw other masks"
    page.get_by_text(LABEL).first.evaluate("label => label.scrollIntoView()")
    where = stand_still(page)
    shown = shoot(page, where)
    toggle(page, LABEL)
    agreement = iou(drawn(shown, shoot(page, where), masks[LABEL].shape), masks[LABEL])
    toggle(page, LABEL)
    print(f"task {ls_task}: IoU of the accepted suggestion on the screen with the pool's mask {agreement:.3f}")
    assert agreement >= 0.9

    page.get_by_role("button", name="Submit").first.click()
    wait_for("the label in the pool", lambda: demo.live(ls_task), 10)
    label = demo.live(ls_task)[-1]
    assert label.error is None
    assert {name: (asked["text"], asked["source"]) for name, asked in label.prompts.items()} == {
        name: (text, "annotator") for name, text in typed.items()
    }
    for name, mask in masks.items():
        found = decode_mask(demo.pool.store.get("masks", label.masks[name]))
        assert (found == mask).all(), f"{name}: the label is the accepted suggestion, pixel for pixel"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_typed_prompt_is_answered_soon_while_it_scores_and_trains(demo: Demo) -> None:
    """The median of 15 answers is under 2 s while a training runs and images wait to be drawn."""
    command = [sys.executable, str(ROOT / "scripts" / "bench_prompts_latency.py"), "--home", str(demo.home)]
    command += ["--url", f"http://127.0.0.1:{demo.port}", "--project", str(demo.ls_id), "--count", "15", "--json"]
    before = demo.project().prompts
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    print(ended.stdout)
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout)["busy"]
    assert figures["web process"]["requests"] == 15
    assert figures["web process"]["median"] < 2
    assert demo.project().prompts == before, "the bench leaves the templates as they were"
    wait_for("the last training to end", lambda: all(row.ended_at is not None for row in demo.rounds()), 300)
