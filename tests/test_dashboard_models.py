"""The pages of models over real HTTP: what they show, and that a click changes which model serves, or says why not."""

import re
import time
from collections.abc import Iterator
from types import SimpleNamespace

import httpx
import pytest
from models_fixture import LABELS, begin_training, champion_of, make_models
from pool_fixture import add_project
from registry_fixture import damage, register, small_weights, weights_file
from sqlalchemy import select
from test_dashboard_access import PAGE, enter, token_of
from valkey_fixture import Valkey
from web_fixture import CREDENTIALS, serving

from maskloop_backend.credentials import add_reader
from maskloop_backend.outlook import Outlook
from maskloop_backend.web.dashboard import models
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Event, Model, Project, Round
from maskloop_learner.settings import Settings
from maskloop_queue.wake import KEY

HTMX = {"HX-Request": "true"}
CHART = '<svg viewBox="0 0 560 320" role="img"'


@pytest.fixture
def project(pool: Pool, settings: Settings) -> int:
    """A project of four rounds, of which the third was rejected; Redis is down."""
    settings.redis_url = "redis://127.0.0.1:1/0"
    project = add_project(pool, labels=LABELS)
    make_models(pool, project, settings)
    return project


@pytest.fixture
def client(pool: Pool, settings: Settings, project: int) -> Iterator[httpx.Client]:
    """A browser of the project lead."""
    with serving(pool, settings) as made:
        made.headers.update(PAGE)
        yield made


def words(page: httpx.Response) -> str:
    """What is to be read on a page."""
    assert page.status_code == 200, page.text
    text = re.sub(r"<[^>]+>", " ", re.sub(r"<title>.*?</title>", "", page.text, flags=re.DOTALL))
    return re.sub(r"\s+", " ", text.replace("&#39;", "'").replace("&gt;", ">").replace("&lt;", "<"))


def form(fence: int, **more: str) -> dict[str, str]:
    """As the dialog sends it."""
    return {"fence": str(fence), **more}


def test_all_versions_are_shown_with_figures_and_reasons(client: httpx.Client, pool: Pool) -> None:
    page = client.get("/models")
    told = words(page)
    with pool.read() as session:
        rows = session.execute(select(Model, Round).join(Round, Round.model_id == Model.id)).all()
    assert len(rows) == 4
    for model, row in rows:
        assert f"Model {model.id}" in told
        assert row.reason is not None
        assert row.reason in told
        assert f"{row.state} : {row.reason}" in told
        dice = model.metrics["dice"]["overall"]
        assert f"{dice['mean']:.3f} {dice['low']:.3f} to {dice['high']:.3f}" in told
    assert "Model 4 serving" in told
    assert "Model 3 rejected" in told
    assert "Model 2 served before" in told
    assert page.text.count(CHART) == 2, "a learning curve and a reliability diagram"
    assert 'aria-label="Dice on validation images over labels' in page.text
    assert "None is queued or runs." in told
    assert client.get("/models?project=99").status_code == 404


def test_a_project_without_a_model_says_what_makes_one(pool: Pool, settings: Settings) -> None:
    settings.redis_url = "redis://127.0.0.1:1/0"
    with serving(pool, settings) as client:
        assert "No project is connected yet" in words(client.get("/models", headers=PAGE))
        assert client.get("/models/live").status_code == 404
        add_project(pool)
        told = words(client.get("/models", headers=PAGE))
        assert "There is no model yet" in told
        assert "No model serves" in told
        assert client.get("/models/1", headers=PAGE).status_code == 404


def test_a_promotion_is_asked_done_and_written_down(client: httpx.Client, pool: Pool, project: int) -> None:
    """Without a script the question is a page of its own; afterwards one is back among the models."""
    asked = client.get("/models/2/promote?project=7")
    assert "Let model 2 serve?" in words(asked)
    assert 'action="/models/2/promote?project=7"' in asked.text
    fence = champion_of(pool, project).fence
    done = client.post("/models/2/promote?project=7", data=form(fence, reason="the other one blurs"))
    assert (done.status_code, done.headers["location"]) == (303, "/models?project=7")
    row = champion_of(pool, project)
    assert (row.model_id, row.previous_model_id, row.pinned, row.fence) == (2, 4, True, fence + 1)
    assert row.changed_by == "maskloop (dashboard)"
    with pool.read() as session:
        last = session.scalars(select(Event).where(Event.kind == "champion.changed").order_by(Event.id.desc())).first()
    assert last is not None
    assert (last.data["reason"], last.data["by"]) == ("the other one blurs", "maskloop (dashboard)")
    told = words(client.get("/models"))
    assert "Model 2 serving, pinned" in told
    assert "by maskloop (dashboard): the other one blurs" in told
    assert "until a training on newer labels passes the gate" in told
    assert "Label Studio Its masks go to Label Studio, which then switches." in told


def test_a_rollback_and_a_release(client: httpx.Client, pool: Pool, project: int) -> None:
    assert "Roll back to model 2?" in words(client.get("/models/rollback"))
    fence = champion_of(pool, project).fence
    assert client.post("/models/rollback", data=form(fence, to="2")).status_code == 303
    assert (champion_of(pool, project).model_id, champion_of(pool, project).pinned) == (2, True)
    assert "Release the champion?" in words(client.get("/models/release"))
    assert client.post("/models/release", data={}).status_code == 303
    assert not champion_of(pool, project).pinned
    assert "Release …" not in client.get("/models").text


def test_who_decides_on_what_is_no_longer_so_is_refused(client: httpx.Client, pool: Pool, project: int) -> None:
    """In the dialog, in words, and the dialog then knows how it stands now."""
    old = champion_of(pool, project).fence
    register(pool, project, small_weights(9))
    decided = {"/models/1/promote": form(old), "/models/rollback": form(old, to="2"), "/models/release": form(old)}
    for path, fields in decided.items():
        refused = client.post(path, data=fields, headers=HTMX)
        assert (refused.status_code, refused.headers["hx-retarget"]) == (409, "#ask")
        assert f"no longer {old}" in refused.text
        assert f'name="fence" value="{old + 1}"' in refused.text
        assert "<html" not in refused.text
    page = client.post("/models/1/promote", data=form(old))
    assert page.status_code == 409
    assert "<html" in page.text
    told = client.post("/models/1/promote", data=form(old), headers={"Accept": "application/json"})
    assert (told.status_code, told.json()["error"]["what"]) == (409, "it is not done")
    assert champion_of(pool, project).model_id == 5
    assert client.post("/models/1/promote", data={"fence": "x"}).status_code == 400
    done = client.post("/models/1/promote", data=form(old + 1), headers=HTMX)
    assert (done.status_code, done.headers["hx-redirect"]) == (204, "/models?project=7")


def test_what_cannot_serve_is_refused_as_the_command_does(client: httpx.Client, pool: Pool, project: int) -> None:
    damage(weights_file(pool, 1), "altered")
    fence = champion_of(pool, project).fence
    refused = client.post("/models/1/promote", data=form(fence), headers=HTMX)
    assert refused.status_code == 409
    assert "Model 1 is not whole" in refused.text
    assert "maskloop models import" in refused.text
    shown = client.get("/models")
    assert "damaged" in words(shown)
    assert 'id="promote-1"' not in shown.text
    assert client.post("/models/99/promote", data=form(fence)).status_code == 404
    assert client.post("/models/x/promote", data=form(fence)).status_code == 404
    foreign = register(pool, add_project(pool, ls_id=8), small_weights(7))
    assert client.post(f"/models/{foreign}/promote?project=7", data=form(fence)).status_code == 404
    assert client.get(f"/models/{foreign}?project=7").status_code == 404
    assert client.get("/models/rollback?project=8").status_code == 409, "it has no earlier model"
    assert champion_of(pool, project).fence == fence


def test_sync_is_told_at_once(pool: Pool, settings: Settings, valkey: Valkey) -> None:
    project = add_project(pool, labels=LABELS)
    make_models(pool, project, settings, course=((4, 0.5), (8, 0.7)))
    with serving(pool, settings) as client:
        fence = champion_of(pool, project).fence
        assert client.post("/models/1/promote", data=form(fence)).status_code == 303
    assert [int(each) for each in valkey.connect().lrange(KEY, 0, -1)] == [7]


def test_the_training_is_shown_live(client: httpx.Client, pool: Pool, project: int) -> None:
    """Asked for every two seconds while it runs; a page whose models are no longer those of now is told."""
    page = client.get("/models").text
    seen = re.search(r'hx-get="(/models/live[^"]+)" hx-trigger="every 5s"', page)
    assert seen is not None, "Label Studio serves another version yet"
    live = seen[1].replace("&amp;", "&")
    number = begin_training(pool, project)
    part = client.get(live, headers=HTMX)
    told = words(part)
    assert f"Round {number}, on 40 labels, started by button. It learns." in told
    assert "120 of 300 steps, loss 0.208, 2 min to go" in told
    assert 'hx-trigger="every 2s"' in part.text
    assert CHART in part.text
    assert "hx-trigger" not in part.headers
    with pool.write() as session:
        session.get_one(Round, number).state = "failed"
        session.get_one(Project, project).served_version = champion_of(pool, project).version_id
    register(pool, project, small_weights(9), serve=False)
    part = client.get(live, headers=HTMX)
    assert part.headers["hx-trigger"] == "models-changed"
    assert "serves it" in words(part)
    assert 'hx-trigger="every 15s"' in part.text


def test_what_is_left_to_be_drawn_is_not_counted_at_every_look(
    client: httpx.Client, pool: Pool, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted in the whole pool; that Label Studio has followed is seen at once all the same."""
    counted: list[str] = []

    def count(pool: Pool, project_id: int, version: str) -> Outlook:
        counted.append(version)
        time.sleep(0.5)
        return Outlook.of(pool, project_id, version)

    monkeypatch.setattr(models, "Outlook", SimpleNamespace(of=count))
    for _ in range(4):
        assert "switches" in words(client.get("/models/live"))
    assert len(counted) == 1
    with pool.write() as session:
        session.get_one(Project, project).served_version = champion_of(pool, project).version_id
    assert "serves it" in words(client.get("/models/live"))


def test_a_models_own_page_tells_everything(client: httpx.Client, pool: Pool, project: int) -> None:
    told = words(client.get("/models/4"))
    with pool.read() as session:
        model = session.get_one(Model, 4)
    for expected in (
        model.metrics["decision"],
        model.weights_digest,
        "Against model 2 , the champion when it was made",
        "calibration error Tumor 0.060 0.050 -0.010",
        "made champion by round 1",
        "Images added: 20",
        "config seed 1 3 +2",
    ):
        assert expected in told, expected
    learnt = re.search(r"snapshot 4: (\d+) images, (\d+) kept for validation", told)
    assert learnt is not None
    assert int(learnt[1]) + int(learnt[2]) == 40
    assert client.get("/models/4").text.count(CHART) == 2
    version = champion_of(pool, project).version_id
    sent = client.get(f"/models/{version}")
    assert (sent.status_code, sent.headers["location"]) == (303, "/models/4?project=7")
    assert client.get("/models/99").status_code == 404
    assert client.get("/models/maskloop-000000000000").status_code == 404


def test_a_reader_sees_all_and_changes_nothing(client: httpx.Client, settings: Settings, pool: Pool) -> None:
    reader, _ = enter(str(client.base_url).rstrip("/"), add_reader(settings.home))
    before = champion_of(pool, 1).fence
    for path in ("/models", "/models/3", "/models/live"):
        page = reader.get(path)
        assert page.status_code == 200
        assert "Promote" not in page.text
        assert "Roll back" not in page.text
    token = token_of(reader.get("/models"))
    for path in ("/models/2/promote", "/models/rollback", "/models/release"):
        assert reader.get(path).status_code == 403
        assert reader.post(path, headers={"X-CSRF-Token": token}, data=form(before)).status_code == 403
    assert champion_of(pool, 1).fence == before
    reader.close()


def test_a_click_of_another_site_changes_nothing(client: httpx.Client, pool: Pool, project: int) -> None:
    """A session's write needs its token, in the form or as a header."""
    lead, _ = enter(str(client.base_url).rstrip("/"), CREDENTIALS.password)
    fence = champion_of(pool, project).fence
    assert lead.post("/models/2/promote", data=form(fence)).status_code == 403
    token = token_of(lead.get("/models"))
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert lead.post("/models/2/promote", data=form(fence, csrf_token=token), headers=foreign).status_code == 403
    assert champion_of(pool, project).fence == fence
    assert lead.post("/models/2/promote", data=form(fence, csrf_token=token)).status_code == 303
    assert champion_of(pool, project).model_id == 2
    lead.close()
