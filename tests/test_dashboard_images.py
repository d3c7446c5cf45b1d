"""The page of images: the ranking's order whatever the page size, filters, pictures, and words where nothing is."""

import io
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest
from dashboard_fixture import HEIGHT, LABELS, WIDTH, Site, add_answer, make_site, slice_of
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from PIL import Image as Pillow
from pool_fixture import add_label, add_model, add_project, add_task
from sqlalchemy import delete, update
from web_fixture import CREDENTIALS, add_prediction, add_version, serving

from maskloop_backend.cli.ranking import order_by
from maskloop_backend.heatmaps import SECONDS, HeatMaps
from maskloop_backend.labelstudio.template import write_config
from maskloop_backend.sync.display import find_due
from maskloop_backend.web.dashboard.boards import DEFAULT, SCORES, Boards, largest
from maskloop_backend.web.dashboard.drawing import fit, heat, outline, paint
from maskloop_backend.web.dashboard.listing import Listing
from maskloop_backend.web.dashboard.thumbs import Thumbs
from maskloop_backend.web.dashboard.wishes import Cursor, Wish
from maskloop_backend.web.errors import WebError
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import ranking
from maskloop_learner.pool.schema import Prediction, Project, Rank, Score, Task
from maskloop_learner.settings import Settings

PAGE = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Pool, Site]]:
    """A dashboard over one small pool, for all tests that change nothing."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), redis_url="redis://127.0.0.1:1/0")
    pool = Pool.open(settings)
    site = make_site(pool, 12)
    with serving(pool, settings) as client:
        yield client, pool, site


def walk(client: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    """All pages of /api/images."""
    items: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        answer = client.get("/api/images", params={**query, "after": after}).raise_for_status().json()
        items += answer["items"]
        after = answer["next"]
        assert len(items) < 1000, "it never ends"
    return items


@pytest.mark.parametrize("limit", [1, 2, 5, 500])
@pytest.mark.parametrize("by", [DEFAULT, "mutual_information/patch_max", "predictive_entropy/boundary_norm"])
def test_pages_together_are_the_ranking(shown: tuple[httpx.Client, Pool, Site], by: str, limit: int) -> None:
    """Over HTTP, and as the command line orders it."""
    client, pool, site = shown
    with pool.read() as session:
        wanted = [(row.ls_id, row.uncertainty) for row in order_by(ranking(session, site.project, site.version), by)]
    items = walk(client, by=by, limit=limit)
    assert [(item["task"], item["value"]) for item in items] == wanted
    assert [item["rank"] for item in items] == list(range(1, len(wanted) + 1))
    assert len(wanted) == 8


@profile(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_random_pools_are_listed_as_they_are_ranked(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """With ties, tasks of two images, predictions of earlier releases, labelled, skipped, failed and deleted tasks."""
    dice = np.random.default_rng(seed)
    pool = Pool.open(Settings(home=tmp_path_factory.mktemp("random")))
    project = add_project(pool)
    add_version(pool, project, add_model(pool, project), "v")
    two = {"controls": [{"data_key": name} for name in ("image", "other")]}
    with pool.write() as session:
        session.get_one(Project, project).control = two
    for number in dice.permutation(14).tolist():
        for part in ("image", "other")[: dice.integers(1, 3)]:
            task = add_task(pool, project, number + 1, data=None if dice.random() < 0.9 else slice_png(), part=part)
            with pool.write() as session:
                row = session.get_one(Task, task)
                digest = row.image_digest or ""
                row.state = "failed" if dice.random() < 0.05 else "ready"
                if dice.random() < 0.05:
                    row.deleted_at = row.created_at
            score = float(dice.choice([0.25, 0.5, dice.random()]))
            add_row(pool, digest, score, with_rank=dice.random() < 0.7, with_prediction=dice.random() < 0.8)
            if dice.random() < 0.2:
                add_label(pool, task, cancelled=dice.random() < 0.5)
    boards = Boards()
    with pool.read() as session:
        wanted = [(row.ls_id, row.task_id, row.uncertainty) for row in ranking(session, project, "v")]
        listing = Listing(session, session.get_one(Project, project), "v", boards.of("v"))
        for limit in (1, 3, 100):
            found, after = [], None
            while True:
                rows, after = listing.page(Wish(after=after, limit=limit))
                found += [(row.ls_id, row.task_id, row.value) for row in rows]
                if after is None:
                    break
            assert found == wanted
        assert listing.count(Wish()) == len(wanted)
        everything = [row.ls_id for row in listing.page(Wish(state="all", limit=500))[0]]
        assert len(set(everything)) == len(everything) == listing.count(Wish(state="all"))
    pool.close()


def slice_png() -> bytes:
    """One picture that several tasks show."""
    out = io.BytesIO()
    Pillow.new("RGB", (8, 8)).save(out, "PNG")
    return out.getvalue()


def add_row(pool: Pool, digest: str, score: float, *, with_rank: bool, with_prediction: bool) -> None:
    """What the version says of an image, unless it has spoken already."""
    with pool.read() as session:
        ranked = session.query(Rank).filter_by(image_digest=digest).first() is not None
    if ranked:
        return
    if with_rank:
        with pool.write() as session:
            session.add(Rank(version_id="v", image_digest=digest, uncertainty=score, method="m", samples=1))
    elif with_prediction:
        with pool.write() as session:
            if session.query(Prediction).filter_by(image_digest=digest).first() is None:
                session.add(Prediction(version_id="v", image_digest=digest, uncertainty=score))


def test_states_and_filters_name_the_tasks_that_fit(shown: tuple[httpx.Client, Pool, Site]) -> None:
    client, _, _ = shown

    def tasks(**query: Any) -> set[int]:
        return {item["task"] for item in walk(client, limit=3, **query)}

    assert tasks() == {4, 6, 7, 8, 9, 10, 11, 12}
    assert tasks(state="labelled") == {1, 2}
    assert tasks(state="skipped") == {3}
    assert tasks(state="waiting") == {5}
    assert tasks(state="failed") == {900}
    assert tasks(state="all") == {*range(1, 13), 900}
    assert tasks(batch=1) == {7, 8, 9, 10, 11}
    assert tasks(batch=2) == set()
    assert tasks(group="P001") == {4, 6}
    assert tasks(group="P00%") == set(), "a per cent sign is one"
    assert tasks(label="Tumor") == tasks()
    assert tasks(label="Nothing") == set()
    for state, count in (("queue", "8 images"), ("failed", "1 image"), ("waiting", "1 image"), ("all", "13 images")):
        assert client.get("/images/count", params={"state": state}).text.strip() == count
    item = next(item for item in walk(client) if item["task"] == 7)
    assert item["batch"] == 1
    assert item["reason"].startswith("number 1 of")
    assert item["name"] == "scan_0007.png"
    assert item["url"] == "http://127.0.0.1:1/projects/7/data?task=7"
    assert set(item["labels"]) == set(LABELS)


@pytest.mark.parametrize(
    "query",
    ["by=beauty", "state=odd", "batch=x", "batch=0", "limit=501", "after=x", "after=nan:1:1:1", "after=1:-1:1:1"],
)
def test_what_cannot_be_asked_for_is_named(shown: tuple[httpx.Client, Pool, Site], query: str) -> None:
    client, _, _ = shown
    answer = client.get(f"/api/images?{query}")
    assert answer.status_code == 400
    assert f"`{query.split('=')[0]}`" in answer.json()["error"]["what"]


def test_a_cursor_comes_back_to_the_last_bit() -> None:
    for value in (None, 0.1 + 0.2, 5e-324, 1.0):
        cursor = Cursor(value, 3, 4, 48)
        assert Cursor.read(cursor.text()) == cursor
    with pytest.raises(WebError, match="after"):
        Cursor.read("1:2")


def test_a_score_of_a_single_pass_is_refused_in_words(pool: Pool, settings: Settings) -> None:
    settings.redis_url = "redis://127.0.0.1:1/0"
    site = make_site(pool, 4)
    nothing = {label: {m: dict.fromkeys(("mean", "foreground_band", "patch_max", "top_q", "boundary_norm"), 0.0)
                       for m in ("predictive_entropy", "expected_entropy", "mutual_information", "variance")}
               for label in LABELS}  # fmt: skip
    with pool.write() as session:
        session.execute(update(Rank).where(Rank.version_id == site.version).values(aggregates=nothing))
    with serving(pool, settings) as client:
        page = client.get("/images?by=variance/top_q", headers=PAGE)
        assert page.status_code == 200
        assert "ranks by a single pass" in page.text
        assert client.get("/api/images?by=variance/top_q").status_code == 409


def test_a_board_takes_in_what_comes_and_forgets_what_goes(pool: Pool) -> None:
    site = make_site(pool, 6)
    board = Boards().of(site.version)
    with pool.read() as session:
        before = board.order(session, DEFAULT)
        assert len(before.keys) == 5
        assert (np.diff(before.values) <= 0).all()
    add_answer(pool, site.version, site.tasks[4], slice_of(99)[1])
    with pool.read() as session:
        assert len(board.order(session, DEFAULT).keys) == 6
        assert len(board.order(session, SCORES[-1]).keys) == 6
        assert np.isnan(board.find(session, DEFAULT, np.array([10_000, -10_000]))).all()
    with pool.write() as session:
        session.execute(delete(Rank).where(Rank.version_id == site.version))
        session.execute(delete(Score))
    with pool.read() as session:
        assert len(board.order(session, DEFAULT).keys) == 6, "predictions still tell the mean"
    assert largest({}) == pytest.approx([float("nan")] * len(SCORES), nan_ok=True)


def test_pages_say_what_is_not_there(pool: Pool, settings: Settings) -> None:
    """No project; a project without a model, whose images are shown all the same; no map; a lost picture."""
    settings.redis_url = "redis://127.0.0.1:1/0"
    with serving(pool, settings) as client:
        assert "No project is connected yet" in client.get("/images", headers=PAGE).text
        assert client.get("/api/images").status_code == 404
        project = add_project(pool)
        task = add_task(pool, project, 1)
        page = client.get("/images", headers=PAGE).text
        assert "Task 1" in page
        assert "not predicted yet" in page
        assert "Nothing is ranked yet" in client.get("/images?state=queue&label=", headers=PAGE).text
        add_version(pool, project, add_model(pool, project), "v1")
        with pool.read() as session:
            digest = session.get_one(Task, task).image_digest or ""
        add_prediction(pool, "v1", digest)
        assert "no map kept" in client.get("/images", headers=PAGE).text
        assert "no map kept" in client.get(f"/images/{task}", headers=PAGE).text
        pool.store.delete("images", digest)
        lost = client.get(f"/pictures/{digest}-256.webp")
        assert lost.status_code == 404
        assert "missing from the store" in lost.json()["error"]["value"]
        missing = client.get("/images/999", headers=PAGE)
        assert missing.status_code == 404
        assert "There is no such image" in missing.text
        assert client.get("/images?project=99").status_code == 404


def test_pictures_are_small_kept_and_named_by_what_is_in_them(shown: tuple[httpx.Client, Pool, Site]) -> None:
    client, _, _ = shown
    item = walk(client)[0]
    picture = client.get(item["image"])
    with Pillow.open(io.BytesIO(picture.content)) as image:
        assert image.size == (256, 192)
    assert "immutable" in picture.headers["cache-control"]
    again = client.get(item["image"], headers={"If-None-Match": picture.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for address in item["layers"].values():
        layer = client.get(address)
        with Pillow.open(io.BytesIO(layer.content)) as image:
            assert image.mode == "RGBA"
            alpha = np.asarray(image)[..., 3]
        assert alpha.min() == 0, "most of it is clear"
        assert alpha.max() > 100
        wrong = address.replace(address.split("-")[1], "0" * 16)
        assert client.get(wrong).status_code == 404, "it would be kept under a wrong name"
    assert client.get(item["image"].replace("-256", "-9999")).status_code == 404
    side = client.get(f"/images/{item['id']}", headers={"HX-Request": "true"}).text
    assert "What the model says" in side
    assert "Over model versions" in side
    assert side.count("<li>") == 2


def test_heat_is_clear_where_it_is_sure_and_an_outline_keeps_its_colour() -> None:
    ramp = paint(np.linspace(0, 1, 101, dtype=np.float32)[None])
    assert ramp[0, 0, 3] == 0
    assert (np.diff(ramp[0, :, 3].astype(int)) >= 0).all()
    lightness = ramp[0, :, :3].astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness) > -1e-9).all(), "more unsure is never darker"
    maps = [np.zeros((4, 4), np.float32), np.ones((8, 8), np.float32)]
    with Pillow.open(io.BytesIO(heat(maps, width=16, height=8, side=256))) as image:
        assert image.size == (16, 8)
        assert image.getpixel((8, 4)) == (252, 255, 164, 166)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[60:180, 80:240] = True
    with Pillow.open(io.BytesIO(outline([(mask, (230, 159, 0))], side=256))) as image:
        pixels = np.asarray(image)
    inside = pixels[..., 3] > 200
    assert image.size == (256, 192)
    assert inside.any()
    assert not inside[90:100, 120:130].any()
    bright = pixels[inside].max(axis=0)
    assert (abs(bright[:3].astype(int) - (230, 159, 0)) <= 20).all()
    assert not pixels[:3, :, 3].any(), "the picture's rim is no edge"
    assert fit(1, 4000, 256) == (1, 256)


def test_small_pictures_stay_within_their_bound(tmp_path: Any) -> None:
    """The ones that were not used for longest go; a picture that cannot be kept is made all the same."""
    thumbs = Thumbs(tmp_path / "thumbs", limit=1000)
    made: list[str] = []

    def make(name: str) -> bytes:
        made.append(name)
        return b"x" * 100

    for number in range(20):
        name = f"{number:02d}-picture"
        assert len(thumbs.get(name, partial(make, name))) == 100
        thumbs.get(name, partial(make, name))
    assert len(made) == 20
    kept = sum(path.stat().st_size for path in (tmp_path / "thumbs").rglob("*") if path.is_file())
    assert 700 <= kept <= 1000
    (tmp_path / "file").write_text("")
    assert Thumbs(tmp_path / "file", limit=1000).get("ab", lambda: b"made") == b"made"
    assert Thumbs(tmp_path / "none", limit=0).get("a", lambda: b"made") == b"made"
    assert not (tmp_path / "none").exists()


def test_addresses_of_heat_maps_are_good_for_one_map_and_a_time() -> None:
    maps = HeatMaps(b"key", "http://dash.test")
    address = maps.address(7, "maskloop-v", now=1000)
    assert address.startswith("http://dash.test/maps/7/maskloop-v.png?expires=")
    query = dict(part.split("=", 1) for part in address.split("?")[1].split("&"))
    assert maps.is_right(7, "maskloop-v", query, now=1000)
    assert not maps.is_right(8, "maskloop-v", query, now=1000)
    assert not maps.is_right(7, "maskloop-w", query, now=1000)
    assert not maps.is_right(7, "maskloop-v", query, now=1000 + SECONDS)
    assert not maps.is_right(7, "maskloop-v", query | {"expires": str(10**11)}, now=1000)
    assert not HeatMaps(b"other", "").is_right(7, "maskloop-v", query, now=1000)
    assert not maps.is_right(7, "maskloop-v", {}, now=1000)
    assert maps.is_fresh([address], 7, "maskloop-v", now=1000)
    assert not maps.is_fresh([address], 7, "maskloop-v", now=1000 + SECONDS * 0.6), "it is renewed at half of its life"
    assert not any(maps.is_fresh(found, 7, "maskloop-v", now=1000) for found in (None, [], address, [1], [address] * 2))


def test_an_annotators_map_needs_no_log_in_but_a_signature(pool: Pool, settings: Settings) -> None:
    """Blind tasks, and those without a map, get a picture that says nothing; other pages may read it with a script."""
    settings.redis_url = "redis://127.0.0.1:1/0"
    site = make_site(pool, 5)
    with pool.write() as session:
        session.get_one(Task, site.tasks[1]).blind = True
    with serving(pool, settings) as client:
        base = str(client.base_url).rstrip("/")
        maps = HeatMaps(CREDENTIALS.signing_key("maps"), base)

        def colours(task: int) -> int:
            answer = httpx.get(maps.address(task, site.version))
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "set-cookie" not in answer.headers
            with Pillow.open(io.BytesIO(answer.content)) as image:
                assert image.size == (WIDTH, HEIGHT)
                return len(image.getcolors(1 << 20) or [])

        assert colours(site.tasks[0]) > 100
        assert colours(site.tasks[1]) == 1, "blind"
        assert colours(site.tasks[4]) == 1, "not predicted"
        assert httpx.get(maps.address(99, site.version)).status_code == 404
        for wrong in ("", "?signature=x", "?expires=99999999999&signature=x"):
            assert httpx.get(f"{base}/maps/{site.tasks[0]}/{site.version}.png{wrong}").status_code == 403
        assert "access-control-allow-origin" not in client.get("/images").headers


def test_sync_fills_in_addresses_where_the_config_asks_and_renews_them(pool: Pool) -> None:
    """Of unlabelled, predicted tasks; nothing is written twice, and a new version has new addresses."""
    site = make_site(pool, 6)
    maps = HeatMaps(b"key", "http://dash.test")

    def due(version: str) -> dict[int, dict[str, Any]]:
        with pool.read() as session:
            project = session.get_one(Project, site.project)
        return find_due(pool, project, version, lambda: maps)

    assert due(site.version) == {}
    with pool.write() as session:
        session.get_one(Project, site.project).label_config = write_config(LABELS, uncertainty=True)
    found = due(site.version)
    assert set(found) == {3, 4, 6}, "neither labelled nor waiting; one that was skipped comes again"
    for ls_id, fields in found.items():
        assert set(fields) == {"uncertainty", "maskloop_heatmap"}
        [address] = fields["maskloop_heatmap"]
        assert f"/maps/{site.tasks[ls_id - 1]}/{site.version}.png?" in address
    assert [fields["uncertainty"] for fields in found.values()] == sorted(
        (fields["uncertainty"] for fields in found.values()), reverse=True
    )
    with pool.write() as session:
        for ls_id, fields in found.items():
            session.get_one(Task, site.tasks[ls_id - 1]).data = fields
    assert due(site.version) == {}
    again = due(site.before)
    assert set(again) == set(found)
    assert all(site.before in fields["maskloop_heatmap"][0] for fields in again.values())
