"""The page of batches: chosen, shown, exported and ended over HTTP as on the command line, by the lead alone."""

import csv
import io
import json
import re
import threading
from collections.abc import Iterator

import httpx
import pytest
from command_fixture import Command
from dashboard_fixture import Site, make_site
from pool_fixture import add_label, add_project, add_task
from sqlalchemy import func, select, update
from test_dashboard_access import enter, token_of
from valkey_fixture import Valkey
from web_fixture import CREDENTIALS, serving

from maskloop_backend.credentials import add_reader
from maskloop_backend.overview.batches import list_summaries, tell_options
from maskloop_backend.web.dashboard import batches, choosing
from maskloop_backend.web.dashboard.wishing import read_asked
from maskloop_backend.web.errors import WebError
from maskloop_learner.pool.batches import end_batch, find_batch
from maskloop_learner.pool.members import members
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Batch, Event, Project, Task
from maskloop_learner.settings import Settings
from maskloop_queue.connection import connect
from maskloop_queue.wake import wait_for_wake

FORM = {"strategy": "uncertainty", "size": "4", "random_share": "0"}
HTMX = {"HX-Request": "true"}


@pytest.fixture
def shown(pool: Pool, settings: Settings, valkey: Valkey) -> Iterator[tuple[httpx.Client, Site]]:
    """A lead's browser on a small pool whose batch of five has been closed, with a queue."""
    site = make_site(pool, 14)
    with pool.write() as session:
        end_batch(session, find_batch(session, site.project), "closed", by="sync", why="no image of it waits")
    with serving(pool, settings) as client:
        browser, _ = enter(str(client.base_url).rstrip("/"), CREDENTIALS.password)
        browser.headers["X-CSRF-Token"] = token_of(browser.get("/"))
        yield browser, site
        browser.close()


def woken(settings: Settings) -> set[int]:
    """The projects at which sync was asked to look."""
    return wait_for_wake(connect(settings), 0.05)


def test_a_batch_from_the_form_to_the_end(
    shown: tuple[httpx.Client, Site], pool: Pool, settings: Settings, command: Command
) -> None:
    """What was shown before is locked; it is the one that the command line shows; sync hears of it each time."""
    client, _ = shown
    assert "Choose the next batch" in client.get("/batches").text
    preview = client.post("/batches/preview", data=FORM, headers=HTMX)
    assert preview.status_code == 200
    assert "What would come: 4 of 11 images" in preview.text
    with pool.read() as session:
        assert session.scalar(select(func.count(Batch.id))) == 1, "nothing is locked yet"
    assert woken(settings) == set()
    made = client.post("/batches", data=FORM)
    assert (made.status_code, made.headers["location"]) == (303, "/batches/2?project=7")
    assert woken(settings) == {7}
    found = json.loads(command("batch", "show", "--json")[1])
    assert (found["batch"], found["state"], found["created_by"]) == (2, "open", "maskloop (dashboard)")
    page = client.get("/batches/2").text
    for item in found["items"]:
        assert f"Task {item['task']}" in preview.text
        assert f"Task {item['task']}" in page
        assert item["reason"][1:] in preview.text
        assert item["reason"][1:] in page
    assert page.count('class="card member"') == 4
    assert page.count('class="outline"') == 4
    assert "/projects/7/data?task=" in page
    assert "Choose the next batch" not in client.get("/batches").text
    second = client.post("/batches", data=FORM, headers=HTMX)
    assert second.status_code == 409
    assert "Batch 2 of this project is open" in second.text
    asked = client.get("/batches/2/undo", headers=HTMX).text
    assert "Undo batch 2?" in asked
    assert "The 4 that wait are served by uncertainty again" in asked
    undone = client.post("/batches/2/undo", headers=HTMX)
    assert (undone.status_code, undone.headers["hx-redirect"]) == (204, "/batches/2?project=7")
    assert woken(settings) == {7}
    assert json.loads(command("batch", "show", "--json")[1])["state"] == "undone"
    again = client.post("/batches/2/close", headers=HTMX)
    assert (again.status_code, again.headers["hx-retarget"]) == (409, "#ask")
    assert "Batch 2 is undone since" in again.text
    assert "by maskloop (dashboard)" in client.get("/batches/2").text
    assert "by sync: no image of it waits" in client.get("/batches/1").text
    client.post("/batches", data=FORM)
    assert client.post("/batches/3/close").status_code == 303
    with pool.read() as session:
        assert [row.state for row in session.scalars(select(Batch).order_by(Batch.id))] == [
            "closed",
            "undone",
            "closed",
        ]
        kinds = list(session.scalars(select(Event.kind).where(Event.kind.like("batch.%")).order_by(Event.id)))
    assert kinds[-4:] == ["batch.created", "batch.undone", "batch.created", "batch.closed"]


def test_two_leads_at_once_make_one_batch(shown: tuple[httpx.Client, Site], pool: Pool) -> None:
    """The other one is told so; and so is the one who presses twice."""
    client, _ = shown
    start = threading.Barrier(5)
    codes: list[int] = []

    def press() -> None:
        start.wait()
        codes.append(client.post("/batches", data=FORM).status_code)

    threads = [threading.Thread(target=press) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [303, 409, 409, 409, 409]
    with pool.read() as session:
        assert session.scalar(select(func.count(Batch.id)).where(Batch.state == "open")) == 1


def test_leads_on_two_web_processes_make_one_batch(
    shown: tuple[httpx.Client, Site], pool: Pool, settings: Settings
) -> None:
    """There the database decides."""
    client, _ = shown
    start = threading.Barrier(2)
    codes: list[int] = []
    with serving(pool, settings) as other:

        def press(browser: httpx.Client) -> None:
            start.wait()
            codes.append(browser.post("/batches", data=FORM, headers={"Accept": "text/html"}).status_code)

        threads = [threading.Thread(target=press, args=(each,)) for each in (client, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(codes) == [303, 409]
    with pool.read() as session:
        assert session.scalar(select(func.count(Batch.id)).where(Batch.state == "open")) == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"size": "0"}, "`size` is not what it must be"),
        ({"size": "four"}, "`size` is not what it must be"),
        ({"size": "2.5"}, "`size` is not what it must be"),
        ({"strategy": "guess"}, "`strategy` is not what it must be"),
        ({"score": "beauty/mean"}, "`score` is not what it must be"),
        ({"random_share": "101"}, "`random_share` is not what it must be"),
        ({"random_share": "nan"}, "`random_share` is not what it must be"),
        ({"group_cap": "-1"}, "`group_cap` is not what it must be"),
        ({"beta": "x"}, "`beta` is not what it must be"),
        ({"seed": "-1"}, "`seed` is not what it must be"),
    ],
)
def test_a_field_that_is_wrong_is_named(fields: dict[str, str], said: str) -> None:
    with pytest.raises(WebError) as caught:
        read_asked(FORM | fields)
    assert said in caught.value.what
    assert caught.value.fix.startswith("Give ")


def test_a_form_means_what_the_command_line_means() -> None:
    """Per cent become a share, and what is left empty its default."""
    plain = read_asked({})
    assert (plain.size, plain.strategy, plain.seed, plain.options.random_share) == (40, "uncertainty", None, 0.1)
    fields = {"strategy": "power", "size": "7", "random_share": "25", "group_cap": "3", "beta": "inf", "seed": "0"}
    asked = read_asked(fields | {"keep_duplicates": "on", "score": "variance/top_q"})
    options = asked.options
    assert (asked.size, asked.strategy, asked.seed) == (7, "power", 0)
    assert (options.random_share, options.group_cap, options.keep_duplicates) == (0.25, 3, True)
    assert (options.beta, options.score) == (float("inf"), "variance/top_q")
    words = dict(tell_options("power", {"random_share": 0.25, "beta": "inf", "group_cap": 3}, seed=4))
    assert words == {"By lot": "25 %", "Of one group": "3 at most", "Beta": "inf", "Seed": "4"}
    assert "Beta" not in dict(tell_options("random", {"random_share": 0.1}, seed=1))


def test_what_cannot_be_chosen_is_said_with_the_way_out(shown: tuple[httpx.Client, Site], pool: Pool) -> None:
    """As a note on the page, and as JSON for a script; nothing is locked."""
    client, _ = shown
    many = client.post("/batches/preview", data=FORM | {"size": "500"}, headers=HTMX)
    assert many.status_code == 409
    assert "11 images chosen of 500 asked for" in many.text
    assert "Ask for 11 at most" in many.text
    unkept = client.post("/batches", data=FORM | {"strategy": "diverse"}, headers={"Accept": "application/json"})
    error = unkept.json()["error"]
    assert (unkept.status_code, "needs embeddings" in error["what"]) == (409, True)
    assert error["fix"].startswith("Let a GPU worker run")
    for path in ("/batches/9", "/batches/x", "/batches/9/close", "/batches/1/export.xml", "/batches/9/export.csv"):
        assert client.get(path).status_code == 404, path
    assert client.get("/batches?project=99").status_code == 404
    with pool.read() as session:
        assert session.scalar(select(func.count(Batch.id))) == 1


def test_a_batch_is_exported_as_the_command_line_does(shown: tuple[httpx.Client, Site], command: Command) -> None:
    client, _ = shown
    for form in ("csv", "json"):
        found = client.get(f"/batches/1/export.{form}")
        assert found.headers["content-disposition"] == f'attachment; filename="batch-1.{form}"'
        wanted = command("batch", "export", "1", "--format", form)[1]
        assert found.text.replace("\r\n", "\n") == wanted.replace("\r\n", "\n")
    assert len(list(csv.DictReader(io.StringIO(client.get("/batches/1/export.csv").text)))) == 5


def test_a_reader_looks_and_cannot_choose_or_end(
    shown: tuple[httpx.Client, Site], pool: Pool, settings: Settings
) -> None:
    client, site = shown
    client.post("/batches", data=FORM)
    with serving(pool, settings) as other:
        reader, _ = enter(str(other.base_url).rstrip("/"), add_reader(settings.home))
        headers = {"X-CSRF-Token": token_of(reader.get("/"))}
        pages = [reader.get(path) for path in ("/batches", "/batches/2", "/batches/2/state", "/batches/2/export.csv")]
        assert [page.status_code for page in pages] == [200] * 4
        assert all(word not in page.text for page in pages for word in ("Lock the batch", "Close …", "Undo …"))
        for path in ("/batches", "/batches/preview", "/batches/2/close", "/batches/2/undo"):
            assert reader.post(path, data=FORM, headers=headers).status_code == 403
        assert reader.get("/batches/2/close").status_code == 403
        reader.close()
    with pool.read() as session:
        assert find_batch(session, site.project).state == "open"


def test_how_far_a_batch_is_and_what_was_said_of_it(shown: tuple[httpx.Client, Site], pool: Pool) -> None:
    """Counts follow the labels, the note of the choice stands on the page, and so does Label Studio's tab."""
    client, site = shown
    with pool.write() as session:
        session.execute(update(Task).where(Task.id.in_(site.tasks[5:])).values(group_key="P9"))
        session.execute(update(Project).values(title="<b>Bold</b>"))
    client.post("/batches", data=FORM | {"size": "2", "group_cap": "1"})
    page = client.get("/batches/2").text
    assert "passed over, as their group has as many as may be." in page
    assert "Label Studio has no tab of it yet" in page
    assert "<b>" not in page
    with pool.write() as session:
        find_batch(session, site.project).ls_view_id = 5
    ids = [item["id"] for item in client.get("/api/images").json()["items"][:2]]
    add_label(pool, ids[0])
    state = client.get("/batches/2/state", headers=HTMX).text
    assert "1 of 2" in state
    assert "shows it as a tab" in state
    with pool.read() as session:
        rows, older = list_summaries(session, site.project, limit=1)
        assert ([row.number for row in rows], older) == ([2], 2)
        rows, older = list_summaries(session, site.project, before=older)
        assert ([row.number for row in rows], older) == ([1], None)
    assert "1 waiting, 1 labelled" in " ".join(client.get("/batches").text.split())


def test_a_page_of_a_batch_follows_its_images_and_its_end(shown: tuple[httpx.Client, Site], pool: Pool) -> None:
    """Its list is drawn anew when an image stands differently, the whole page when the batch is open no more."""
    client, site = shown
    client.post("/batches", data=FORM)
    page = client.get("/batches/2").text
    seen = re.search(r'id="batch-seen" name="seen" value="([\d-]+)"', page)
    assert seen is not None
    assert 'hx-trigger="every 10s" hx-include="#batch-seen"' in page
    address = re.search(r'hx-get="([^"]+)" hx-trigger="batch-moved from:body"', page)
    assert address is not None

    def ask() -> httpx.Headers:
        return client.get(f"/batches/2/state?project=7&seen={seen[1]}", headers=HTMX).headers

    assert "hx-trigger" not in ask()
    with pool.read() as session:
        first = members(session, find_batch(session, site.project, 2))[0].task_id
    add_label(pool, first)
    assert ask()["hx-trigger"] == "batch-moved"
    assert "hx-refresh" not in ask()
    rows = client.get(address[1].replace("&amp;", "&"), headers=HTMX).text
    assert (rows.count('class="card member"'), rows.count(">labelled<")) == (4, 1)
    client.post("/batches/2/close")
    assert ask()["hx-refresh"] == "true"
    assert "every 10s" not in client.get("/batches/2").text


def test_without_a_model_strategies_that_need_one_are_off(pool: Pool, settings: Settings) -> None:
    """The others can be chosen; a pool without a project says so."""
    settings.redis_url = "redis://127.0.0.1:1/0"
    with serving(pool, settings) as client:
        page = {"Accept": "text/html"}
        assert "No project is connected yet" in client.get("/batches", headers=page).text
        assert client.post("/batches", data=FORM).status_code == 404
        project = add_project(pool)
        for ls_id in range(1, 4):
            add_task(pool, project, ls_id)
        form = client.get("/batches", headers=page).text
        assert form.count("(needs a model)") == 5
        refused = client.post("/batches", data=FORM | {"size": "2"})
        assert (refused.status_code, "no model yet" in refused.json()["error"]["what"]) == (409, True)
        assert client.post("/batches", data=FORM | {"size": "2", "strategy": "random"}).status_code == 303
        assert "no model" in client.get("/batches/1", headers=page).text
        cards = client.get("/projects/cards", headers=page).text
        assert "tasks in the order of batch 1" in cards


def test_a_large_batch_comes_a_page_at_a_time(
    shown: tuple[httpx.Client, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PER_PAGE", 2)
    client, _ = shown
    page = client.get("/batches/1").text
    assert page.count('class="card member"') == 2
    assert "/batches/1/more?project=7&amp;after=2" in page
    rest = client.get("/batches/1/more?after=4", headers=HTMX).text
    assert rest.count('class="card member"') == 1
    assert "Show more" not in rest


def test_of_a_large_choice_the_first_images_are_shown(
    shown: tuple[httpx.Client, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With how many there would be; locking still takes all of them."""
    client, _ = shown
    whole = client.post("/batches/preview", data=FORM, headers=HTMX).text
    assert "are shown" not in whole
    monkeypatch.setattr(choosing, "PER_PAGE", 3)
    preview = client.post("/batches/preview", data=FORM, headers=HTMX).text
    assert "What would come: 4 of 11 images" in preview
    assert "The first 3 are shown." in preview
    assert preview.count('class="card member"') == 3
    client.post("/batches", data=FORM)
    assert client.get("/batches/2").text.count('class="card member"') == 4
