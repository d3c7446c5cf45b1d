"""The report of a project: what it says, that it needs nothing else, and that nothing in a project can break it."""

import base64
import io
import re
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pytest
from dashboard_fixture import Site, make_site
from people_fixture import add_work
from PIL import Image as Pillow
from pool_fixture import add_label, add_project, add_task
from report_fixture import ANNOTATORS, LEAD, make_history

from maskloop_backend.overview.models import Figure
from maskloop_backend.report.coming import find_coming
from maskloop_backend.report.page import make_report
from maskloop_backend.report.progress import Progress, find_progress
from maskloop_backend.report.telling import figure, tell_progress
from maskloop_backend.web.dashboard.boards import Boards
from maskloop_backend.web.dashboard.shell import RELEASE
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import ranking
from maskloop_learner.pool.schema import Project, Task
from maskloop_learner.settings import Settings

NOW = datetime(2026, 1, 31, 14, 5, tzinfo=UTC)
SECTIONS = ("state", "progress", "model", "weak", "batches", "people", "coming", "events")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pool, Settings, Site]:
    """A pool in which much has happened, for tests that only read it."""
    settings = Settings(home=tmp_path_factory.mktemp("history"))
    pool = Pool.open(settings)
    return pool, settings, make_history(pool)


def words(page: str) -> str:
    """What a person reads of a page."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r" ([:.,])", r"\1", " ".join(re.sub(r"<[^>]+>", " ", body).split()))


def check_alone(page: str) -> None:
    """It loads nothing, runs nothing, and has all its parts."""
    assert "<script" not in page
    assert not re.search(r"\son[a-z]+=", page)
    assert not re.search(r"\sstyle=", page)
    assert "@import" not in page
    assert "url(" not in page
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in page
    for address in re.findall(r'\s(?:src|href|action|srcset|data|poster)="([^"]*)"', page):
        assert address.startswith(("data:", "#")), address[:80]
    named = set(re.findall(r'\sid="([^"]+)"', page))
    assert set(SECTIONS) <= named
    assert set(re.findall(r'href="#([^"]+)"', page)) <= named


def test_a_project_with_nothing_has_a_report(pool: Pool, settings: Settings) -> None:
    """Every section says why it is empty, and the page says what to do."""
    page = make_report(pool, settings, add_project(pool), now=NOW)
    check_alone(page)
    said = words(page)
    assert "The project has no images yet." in said
    assert "Import tasks into the project in Label Studio." in said
    assert "There is no model yet" in said
    assert "2026-01-31 14:05 UTC" in said
    assert f"Maskloop {RELEASE}" in said


def test_a_project_without_labels_says_when_the_first_training_comes(pool: Pool, settings: Settings) -> None:
    project = add_project(pool)
    for number in (1, 2, 3):
        add_task(pool, project, number)
    page = make_report(pool, settings, project, now=NOW)
    check_alone(page)
    said = words(page)
    assert "Of 3 images none is labelled yet." in said
    assert "No model serves yet" in said
    assert f"The first training starts after {settings.trigger_labels} more labels." in said
    assert "Nothing is ranked without a model" in said


def test_a_project_without_a_model_counts_its_labels(pool: Pool, settings: Settings) -> None:
    project = add_project(pool)
    tasks = [add_task(pool, project, number) for number in range(1, 5)]
    for minute, task in enumerate(tasks[:3]):
        add_label(pool, task, minute=minute * 60 * 24)
    page = make_report(pool, settings, project, now=NOW)
    check_alone(page)
    said = words(page)
    assert "3 of 4 images are labelled and 1 is left." in said
    assert "days since 2026-01-01" in said


def test_a_project_with_a_history_tells_it(history: tuple[Pool, Settings, Site]) -> None:
    """State, models with the gate's words, weak parts, and twelve images with two pictures each."""
    pool, settings, site = history
    page = make_report(pool, settings, site.project, now=NOW)
    check_alone(page)
    said = words(page)
    assert "with a mean Dice of 0.742 (0.702 to 0.777, 32 images)." in said
    assert "The model before it, 1, had 0.610." in said
    assert "The newest, model 3, was not let in by the gate and is kept." in said
    assert "1 image cannot be used. maskloop doctor says which and why." in said
    assert "1 diverse 12 12 0.610 (0.570 to 0.645) model 1 0.735 (0.695 to 0.770) model 3 +0.125" in said
    assert "outside of any – – 2 – – –" in said
    assert "2 open power 5 0 – – not learnt yet" in said
    assert f"{ANNOTATORS[0]} 4 0 42 100.0 % 0.950" in said
    assert "that takes 30 masks shown to one annotator, and as many of others or 10 blind ones" in said
    assert "The image of task 900 cannot be used: it is no image" in said
    assert "Training 4 failed: ImageError: task 7 cannot be read" in said
    assert "Training 4 failed 3 times and was given up: ImageError: task 7 cannot be read" in said
    assert "Rejected: mean Dice 0.735 on 32 validation images" in said
    assert said.index("small structures") < said.index("label Cyst") < said.index("label Tumor")
    assert page.count('role="img"') == 5, "labels, learning curve, calibration, labels a day, agreement"
    assert len(re.findall(r'<img src="data:image/webp', page)) == 23, "the blind one has no second picture"
    assert len(page) < 1_500_000


def test_what_comes_next_is_the_order_of_label_studio(history: tuple[Pool, Settings, Site]) -> None:
    """The open batch in its order, then the others by uncertainty; blind images without what the model says."""
    pool, _, site = history
    with pool.read() as session:
        project = session.get_one(Project, site.project)
        found = find_coming(session, project, Boards())
        order = [row.task_id for row in ranking(session, site.project, site.version)]
    batch = list(reversed(site.tasks[-5:]))
    assert [each.card.id for each in found[:5]] == batch
    assert [each.card.id for each in found[5:]] == [task for task in order if task not in batch][:7]
    assert [each.place for each in found] == list(range(1, 13))
    blind = found[0]
    assert (blind.blind, blind.masks, blind.maps) == (True, {}, ())
    assert (blind.card.uncertainty, blind.card.value, blind.card.reason, blind.card.labels) == (None, None, None, {})
    assert found[1].card.reason == "uncertain 2"
    assert set(found[1].masks) == {"Tumor", "Cyst"}
    assert len(found[1].maps) == 2


def test_pictures_are_drawn_into_the_page(pool: Pool, settings: Settings) -> None:
    """Small WebPs; the outline's colours are in the first, and the second is grey but for its heat."""
    site = make_site(pool, 8)
    page = make_report(pool, settings, site.project, now=NOW)
    pictures = re.findall(r'<img src="data:image/webp;base64,([^"]+)"', page)
    assert len(pictures) == 8
    drawn, heat = (Pillow.open(io.BytesIO(base64.b64decode(each))) for each in pictures[:2])
    assert drawn.size == heat.size == (256, 192)
    assert int(np.asarray(drawn.convert("HSV"))[..., 1].max()) > 150, "coloured lines"


def test_a_lost_picture_costs_no_report(pool: Pool, settings: Settings) -> None:
    site = make_site(pool, 8)
    with pool.read() as session:
        digest = session.get_one(Task, site.tasks[7]).image_digest or ""
    pool.store.delete("images", digest)
    said = words(make_report(pool, settings, site.project, now=NOW))
    assert "it cannot be drawn:" in said


def test_names_are_shown_and_never_run(pool: Pool, settings: Settings) -> None:
    site = make_site(pool, 8)
    nasty = "</style><script>alert(1)</script>\"'"
    with pool.write() as session:
        session.get_one(Project, site.project).title = nasty
        task = session.get_one(Task, site.tasks[7])
        task.data, task.group_key = {"name": nasty}, nasty
    page = make_report(pool, settings, site.project, now=NOW)
    check_alone(page)
    assert "&lt;/style&gt;&lt;script&gt;" in page


def test_anonymous_reports_name_nobody(history: tuple[Pool, Settings, Site]) -> None:
    """Annotators are numbered, and no other name of a person is left either."""
    pool, settings, site = history
    named, anonymous = (make_report(pool, settings, site.project, now=NOW, anonymous=each) for each in (False, True))
    assert all(name in named for name in ANNOTATORS)
    assert not any(name in anonymous for name in (*ANNOTATORS, LEAD))
    for number in range(1, 4):
        assert f"annotator {number}" in anonymous


@pytest.mark.parametrize(
    ("blind", "others", "tells"),
    [
        (0, 0, "Of automation bias nothing can be said yet"),
        (9, 0, "Of automation bias nothing can be said yet"),
        (10, 0, "No alarm for automation bias: held against blind images, nobody"),
        (0, 30, "No alarm for automation bias: held against the others' work, nobody"),
        (10, 30, "No alarm for automation bias: held against blind images and the others' work, nobody"),
    ],
)
def test_no_alarm_is_told_only_where_one_was_looked_for(
    pool: Pool, settings: Settings, blind: int, others: int, tells: str
) -> None:
    """One annotator of 30 masks needs blind images or others."""
    project = add_project(pool)
    add_work(pool, project, "ana", 30, unedited=True, now=NOW)
    add_work(pool, project, "ana", blind, shown="blind", dice={"Tumor": 0.9}, now=NOW)
    add_work(pool, project, "ben", others, unedited=True, now=NOW)
    assert tells in words(make_report(pool, settings, project, now=NOW))


def test_progress_counts_tasks_by_the_day_of_their_first_label(pool: Pool) -> None:
    """A second annotation and an edit count once, skipped and deleted ones not at all."""
    project = add_project(pool)
    tasks = [add_task(pool, project, number) for number in range(1, 7)]
    day = 24 * 60
    for minute, task in ((0, tasks[0]), (5, tasks[1]), (2 * day, tasks[2])):
        add_label(pool, task, minute=minute)
    add_label(pool, tasks[3], minute=day, cancelled=True)
    with pool.write() as session:
        session.get_one(Task, tasks[4]).state = "failed"
        session.get_one(Task, tasks[5]).deleted_at = NOW
    with pool.read() as session:
        found = find_progress(session, project)
    assert (found.images, found.labelled, found.skipped, found.failed, found.left) == (5, 3, 1, 1, 0)
    assert found.days == [(date(2026, 1, 1), 2), (date(2026, 1, 3), 1)]
    assert found.grown == [(date(2026, 1, 1), 2), (date(2026, 1, 3), 3)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": 0, "labelled": 0}, "The project has no images yet."),
        ({"images": 1, "labelled": 0}, "Of 1 image none is labelled yet."),
        ({}, "4 of 10 images are labelled and 6 are left."),
        ({"images": 4}, "4 of 4 images are labelled and none is left."),
        (
            {"skipped": 1, "failed": 2, "labelled": 1},
            "1 of 10 images is labelled, 1 skipped, 2 cannot be used and 6 are left.",
        ),
    ],
)
def test_progress_in_words(changes: dict[str, int], said: str) -> None:
    progress = Progress(images=10, labelled=4, skipped=0, failed=0, days=[])
    assert tell_progress(replace(progress, **changes)) == said  # type: ignore[arg-type]


def test_a_figure_says_how_sure_it_is() -> None:
    assert figure(Figure(mean=0.8)) == "0.800"
    assert figure(Figure(mean=0.8, low=0.75, high=0.842, images=1)) == "0.800 (0.750 to 0.842, 1 image)"
