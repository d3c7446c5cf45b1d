"""The pages of models in a browser: seen wide, narrow, light and dark; promoted, rolled back and released by clicks."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser_fixture import picture_folder
from dashboard_pages import NARROW, WIDE, check_access, open_page, settle
from models_fixture import LABELS, begin_training, champion_of, make_models
from pool_fixture import add_project
from registry_fixture import damage, register, small_weights, weights_file
from sqlalchemy import select
from web_fixture import serving

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, Project, Round
from maskloop_learner.settings import Settings
from maskloop_learner.train.registry import ensure_version, set_champion
from maskloop_learner.train.verification import note_fault

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


@pytest.fixture
def project(pool: Pool, settings: Settings) -> int:
    """Five models of four rounds and an import, a damaged one among them, and a training that runs."""
    settings.redis_url = "redis://127.0.0.1:1/0"
    project = add_project(pool, labels=LABELS)
    make_models(pool, project, settings)
    damage(weights_file(pool, 1), "altered")
    note_fault(pool, 1, "weights blob 3f5c: its bytes are not what they were")
    with pool.write() as session:
        row = session.get_one(Project, project)
        row.title, row.served_version = "Breast ultrasound", session.get_one(Champion, project).version_id
    begin_training(pool, project)
    return project


@pytest.fixture
def site(pool: Pool, settings: Settings, project: int) -> Iterator[str]:
    """Address of the dashboard."""
    with serving(pool, settings) as client:
        yield str(client.base_url).rstrip("/")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_models_can_be_seen(browser: "Browser", site: str, tmp_path: Path, size: Any, scheme: str) -> None:
    """The list, a model's own page, and the question, each without serious faults and without sideways scrolling."""
    folder, named = picture_folder(tmp_path / "pictures"), f"{scheme}-{size['width']}"
    page, asked, said = open_page(browser, site, "/models", size=size, scheme=scheme)
    settle(page)
    page.screenshot(path=folder / f"models-{named}.png", full_page=True)
    check_access(page)
    page.locator("#promote-2").click()
    page.wait_for_selector("#ask[open] .question")
    page.screenshot(path=folder / f"models-ask-{named}.png")
    check_access(page)
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_selector("#ask:not([open])", state="attached")
    assert page.evaluate("() => document.activeElement.id") == "promote-2", "back where one came from"
    page.get_by_role("link", name="Model 4", exact=True).first.click()
    page.wait_for_selector("h1:has-text('Model 4')")
    settle(page)
    page.screenshot(path=folder / f"model-{named}.png", full_page=True)
    check_access(page)
    assert all(address.startswith(site) for address in asked), "nothing is asked of another server"
    assert said == []
    page.close()


def test_clicks_change_which_model_serves(browser: "Browser", site: str, pool: Pool, project: int) -> None:
    """Promote with a reason, roll back, release: each asked in the dialog, each seen in the pool and on the page."""
    page, _, said = open_page(browser, site, "/models")
    page.locator("#promote-2").focus()
    page.keyboard.press("Space")
    page.wait_for_selector("#ask[open] .question")
    page.fill("#reason", "fewer specks")
    page.get_by_role("button", name="Promote model 2").click()
    page.wait_for_selector("#live:has-text('by maskloop (dashboard): fewer specks')")
    row = champion_of(pool, project)
    assert (row.model_id, row.previous_model_id, row.pinned) == (2, 4, True)
    page.locator("#rollback").click()
    page.get_by_role("button", name="Roll back").last.click()
    page.wait_for_selector("tr.current:has-text('Model 4')")
    assert champion_of(pool, project).model_id == 4
    page.locator("#release").click()
    page.get_by_role("button", name="Release").last.click()
    page.wait_for_selector("#release", state="detached")
    assert not champion_of(pool, project).pinned
    assert said == []
    page.close()


def test_a_refusal_is_read_in_the_dialog_and_escape_leaves_it(
    browser: "Browser", site: str, pool: Pool, project: int, settings: Settings, tmp_path: Path
) -> None:
    """Somebody else was quicker: what is asked then is about the model that serves now."""
    page, _, _ = open_page(browser, site, "/models")
    page.locator("#promote-2").click()
    page.wait_for_selector("#ask[open] .question")
    before = champion_of(pool, project).fence
    register(pool, project, small_weights(9), settings=settings)
    page.get_by_role("button", name="Promote model 2").click()
    page.wait_for_selector("#ask[open] [role=alert]")
    assert f"no longer {before}" in page.locator("#ask [role=alert]").inner_text()
    page.screenshot(path=picture_folder(tmp_path / "pictures") / "models-refused.png")
    page.keyboard.press("Escape")
    page.wait_for_selector("#ask:not([open])", state="attached")
    assert champion_of(pool, project).model_id == 5
    page.close()


def test_the_page_follows_a_training_by_itself(
    browser: "Browser", site: str, pool: Pool, project: int, settings: Settings
) -> None:
    """Steps go on without a reload; when it has ended, its model is in the list."""
    page, _, said = open_page(browser, site, "/models")
    page.wait_for_selector("#live:has-text('120 of 300 steps')")
    with pool.write() as session:
        row = session.scalars(select(Round).where(Round.state == "running")).one()
        row.progress = row.progress | {"step": 180, "losses": [*row.progress["losses"], [180, 0.19]]}
        number = row.id
    page.wait_for_selector("#live:has-text('180 of 300 steps')")
    model = register(pool, project, small_weights(9), settings=settings, serve=False)
    with pool.write() as session:
        row = session.get_one(Round, number)
        row.state, row.model_id, row.reason = "promoted", model, "it is better"
        found = session.get_one(Project, project)
        version = ensure_version(session, found, session.get_one(Model, model), settings)
        fence = session.get_one(Champion, project).fence
        set_champion(session, project_id=project, model_id=model, version_id=version, fence=fence, by="round 5")
    page.wait_for_selector(f"#versions tr.current:has-text('Model {model}')")
    page.wait_for_selector("#live:has-text('None is queued or runs.')")
    assert said == []
    page.close()
