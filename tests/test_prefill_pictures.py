"""Pre-filled masks in a real browser, drawn with brush, bitmask and polygons: on the screen, submitted, in the pool."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser_fixture import (
    drawn,
    hide_all,
    logged_in,
    open_label_stream,
    open_task,
    picture_folder,
    shoot,
    stand_still,
    toggle,
)
from demo_fixture import wait_for
from drawing import Mask, iou
from matrix_fixture import Bench, Cell
from playwright.sync_api import Browser, Page
from scipy import ndimage

from maskloop_backend.demo.slices import PROMPTS, DemoSet, make_demo_slices
from maskloop_backend.labelstudio.controls import MaskKind
from maskloop_backend.labelstudio.template import write_config
from maskloop_backend.sync.comparing import compare_labels
from maskloop_learner.pool.masks import decode_mask

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SLICES = ("axial-z134.png", "coronal-y062.png", "sagittal-x054.png")
WHITE, GREY = PROMPTS
SPECK = 30
"""Pixels; smaller parts and holes are left out, as predictions leave them out."""


class Slices(Cell):
    """A project of brain slices, made with the label config that `maskloop label-config` prints."""

    def __init__(self, bench: Bench, kind: MaskKind, made: DemoSet) -> None:
        self.made = made
        super().__init__(bench, kind, "upload", "pat", config=write_config(list(PROMPTS), mode=kind, prompt=True))

    def drawn(self, file: str, turn: int = 0) -> dict[str, Mask]:
        """Label -> the true mask of a slice, smoothed."""
        return {label: clean(decode_mask(self.made.truth(label, file).read_bytes())) for label in PROMPTS}


def clean(mask: Mask) -> Mask:
    """As smooth as a prediction, without parts and holes of less than SPECK pixels."""
    smooth: Mask = ndimage.gaussian_filter(mask.astype(np.float32), 1.5) > 0.5
    return ~without_specks(~without_specks(smooth))


def without_specks(mask: Mask) -> Mask:
    """Without small parts."""
    parts, count = ndimage.label(mask)
    large = 1 + np.flatnonzero(ndimage.sum_labels(mask, parts, range(1, count + 1)) >= SPECK)
    found: Mask = np.isin(parts, large)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    """The demo's slices."""
    return make_demo_slices(tmp_path_factory.mktemp("slices"))


@pytest.fixture(scope="module")
def slices(bench: Bench, made: DemoSet) -> Bench:
    """The servers, with brain slices behind them."""
    files = {name: made.image(name).read_bytes() for name in SLICES}
    return dataclasses.replace(bench, places=dataclasses.replace(bench.places, files=files, folder=made.root))


@pytest.fixture(scope="module")
def page(browser: Browser, bench: Bench) -> Iterator[Page]:
    """The admin's page."""
    server = bench.places.label_studio
    with logged_in(browser, server.url, server.username, server.password) as opened:
        yield opened


@pytest.mark.parametrize("kind", ["brush", "bitmask", "polygon"])
def test_masks_are_drawn_where_the_pool_has_them_and_come_back_as_they_were(
    slices: Bench, made: DemoSet, page: Page, tmp_path: Path, kind: MaskKind
) -> None:
    """Three slices with two labels: what vanishes with the eye is the mask, and Submit sends the same mask back."""
    cell = Slices(slices, kind, made)
    cell.pull()
    cell.push(cell.predict())
    tasks = {task.ls_id: task for task in cell.tasks()}
    where = open_label_stream(page, slices.places.label_studio.url, cell.ls_id)
    seen, outline = list[int](), int(kind == "polygon")
    for number in range(len(tasks)):
        task = tasks[open_task(page)]
        masks = cell.drawn(cell.file_of(task))
        seen.append(task.ls_id)
        shown = shoot(page, where)
        page.screenshot(path=picture_folder(tmp_path) / f"{kind}-{number}.png")
        hide_all(page)
        none = shoot(page, where)
        toggle(page, WHITE)  # alone: a polygon's outline would cover its neighbours' edges
        white = iou(drawn(shoot(page, where), none, masks[WHITE].shape, outline=outline), masks[WHITE])
        toggle(page, WHITE)
        hide_all(page)
        either = masks[WHITE] | masks[GREY]
        both = iou(drawn(shown, none, either.shape, outline=outline), either)
        print(f"{kind}, task {task.ls_id}: IoU on the screen: {WHITE} {white:.3f}, all {both:.3f}")
        assert white >= 0.9
        assert both >= 0.9
        page.get_by_role("button", name="Submit").first.click()
        if number + 1 < len(tasks):
            page.wait_for_function("task => window.Htx.task && window.Htx.task.id !== task", arg=task.ls_id)
            where = stand_still(page)
    assert sorted(seen) == sorted(tasks), "each image is served once"
    client = slices.places.label_studio
    wait_for("the last annotation", lambda: client.api("GET", f"/api/tasks/{seen[-1]}").json()["annotations"], 20)
    cell.pull()
    for task in tasks.values():
        found, wanted = cell.label(task), cell.drawn(cell.file_of(task))
        assert found.keys() == wanted.keys()
        for label, mask in wanted.items():
            agreement = iou(found[label], mask)
            print(f"{kind}, task {task.ls_id}, {label}: IoU in the pool {agreement:.4f}")
            assert agreement >= cell.kind.least_iou
    assert not compare_labels(cell.pool, cell.project_id, beat=lambda: None)
    for task in tasks.values():
        (row,) = cell.labels(task)
        assert (row.shown, row.unedited) == ("model", True), "what nobody touched comes back pixel by pixel"
        assert set(row.agreement.values()) == {1.0}
    cell.close()
