"""The page of annotators: what it shows and warns of, periods, the download, and words where nothing is."""

import csv
import io
import re
from collections.abc import Iterator

import httpx
import pytest
from people_fixture import add_team, add_work
from pool_fixture import add_project
from web_fixture import serving

from maskloop_backend.overview.people import look_at_people
from maskloop_backend.web.dashboard.annotators import COLUMNS, colours_of, make_columns, raise_share, write_csv
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import utcnow
from maskloop_learner.settings import Settings

PAGE = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A dashboard over a team's labels (project 7), a project without any (8) and one with odd names (9)."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), redis_url="redis://127.0.0.1:1/0")
    pool = Pool.open(settings)
    add_team(pool, add_project(pool, labels=("Tumor", "Cyst")), now=utcnow())
    add_project(pool, ls_id=8)
    odd = add_project(pool, ls_id=9)
    for name in ("=HYPERLINK(1)", "<script>alert(1)</script>", *(f"annotator {n}" for n in range(9))):
        add_work(pool, odd, name, now=utcnow())
    with serving(pool, settings) as client:
        yield client


def text_of(client: httpx.Client, path: str) -> str:
    """A page's words, without its marks."""
    answer = client.get(path, headers=PAGE).raise_for_status()
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


def test_the_page_tells_who_does_not_look_and_what_to_do(shown: httpx.Client) -> None:
    said = text_of(shown, "/annotators?project=7")
    assert "Automation bias: kim@clinic.example leaves 9" in said
    assert "maskloop groups --project 7 --blind-share 0.1" in said
    assert "A hint, not a proof" in said
    assert "On 24 images that were annotated blind" in said
    assert "of 80 were left" in said
    assert "Of 160 masks the others leave" in said
    assert "each version of the model is held against itself alone" in said
    assert "Automation bias: ana" not in said
    assert "unknown" in said
    assert "Label Studio does not tell who made them" in said


def test_the_page_tells_times_and_which_do_not_count(shown: httpx.Client) -> None:
    rows = list(csv.DictReader(io.StringIO(shown.get("/annotators.csv?project=7").text)))
    total = rows[-1]
    said = text_of(shown, "/annotators?project=7")
    assert f"do not count: {total['lead_time_zero_or_missing']} of {total['labels']}" in said
    assert int(total["lead_time_zero_or_missing"]) > 3
    assert "less time than blind: the median over 2 of 4, each held against themselves alone" in said
    assert "Images are blind by lot" in said


def test_a_project_without_labels_says_so(shown: httpx.Client) -> None:
    assert "Nobody has labelled anything in this period" in text_of(shown, "/annotators?project=8")


@pytest.mark.parametrize(
    ("work", "words"),
    [
        ([("ana", 30, "model", "v1"), ("ana", 9, "blind", "v1")], "Nothing can be said yet: that takes 30 masks"),
        ([("ana", 30, "model", "v1"), ("ben", 30, "model", "v2")], "and as many of others or 10 blind ones"),
        ([("ana", 30, "model", "v1"), ("ana", 10, "blind", "v1")], "only held against blind images"),
        ([("ana", 30, "model", "v1"), ("ben", 30, "model", "v1")], "only held against each other"),
    ],
)
def test_the_page_says_what_was_held_against_what(
    pool: Pool, settings: Settings, work: list[tuple[str, int, str, str]], words: str
) -> None:
    """Without any comparison it does not say that there is no alarm."""
    settings.redis_url = "redis://127.0.0.1:1/0"
    project = add_project(pool)
    for author, count, shown, version in work:
        add_work(pool, project, author, count, shown=shown, version=version, dice={"Tumor": 0.9}, now=utcnow())
    with serving(pool, settings) as client:
        said = text_of(client, "/annotators")
    assert words in said
    assert ("No alarm." in said) == ("only held" in words)


def test_a_pool_without_projects_says_so(pool: Pool, settings: Settings) -> None:
    settings.redis_url = "redis://127.0.0.1:1/0"
    with serving(pool, settings) as client:
        assert "No project is connected yet" in text_of(client, "/annotators")
        assert client.get("/annotators.csv").status_code == 404


def test_a_period_is_one_of_the_list(shown: httpx.Client) -> None:
    seven, ever = (text_of(shown, f"/annotators?project=7&period={each}") for each in ("7", "all"))
    assert seven != ever
    answer = shown.get("/annotators?project=7&period=8")
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "what": "there is no such period",
        "value": "8",
        "fix": "It is one of 7, 30, 90, 365, all (days).",
    }
    assert shown.get("/annotators?project=77").status_code == 404


def test_the_download_is_the_table(shown: httpx.Client) -> None:
    answer = shown.get("/annotators.csv?project=7&period=30")
    assert answer.headers["content-type"].startswith("text/csv")
    assert 'filename="annotators-7-30.csv"' in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert tuple(rows[0]) == COLUMNS
    assert rows[-1]["annotator"] == "(all)"
    assert int(rows[-1]["labels"]) == sum(int(row["labels"]) for row in rows[:-1])
    kim = next(row for row in rows if row["annotator"].startswith("kim"))
    assert kim["alarms"] == "blind peers"
    assert float(kim["share_unedited"]) == pytest.approx(
        int(kim["left_unedited"]) / (int(kim["left_unedited"]) + int(kim["edited"])), abs=1e-4
    )


def test_names_are_text_and_nothing_else(shown: httpx.Client) -> None:
    """Neither markup on the page, nor a formula in a spreadsheet."""
    page = shown.get("/annotators?project=9", headers=PAGE).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    names = [row["annotator"] for row in csv.DictReader(io.StringIO(shown.get("/annotators.csv?project=9").text))]
    assert "'=HYPERLINK(1)" in names


def test_many_annotators_share_the_last_colour(pool: Pool) -> None:
    """What each column of the chart is made of adds up to it."""
    project = add_project(pool)
    for n in range(10):
        add_work(pool, project, f"annotator {n}", 20 - n, now=utcnow())
    with pool.read() as session:
        people = look_at_people(session, project)
    colours = colours_of(people)
    assert len(set(colours.values())) == 8
    columns = list(make_columns(people, colours))
    assert sum(column.count for column in columns) == people.everyone.labels
    for column in columns:
        assert sum(count for _, _, count in column.parts) == column.count
    assert [count for _, name, count in columns[0].parts if name == "others"] == [13 + 12 + 11]
    assert write_csv(people).count("\n") == 12


def test_the_advised_share_is_twice_the_present_one_within_bounds() -> None:
    assert [raise_share(share) for share in (0.0, 0.02, 0.1, 0.4, 0.5)] == [0.1, 0.1, 0.2, 0.5, 0.5]
