"""What is told of a project's models: by real rounds, and over several of them; and the charts of it."""

import numpy as np
import pytest
from command_fixture import Command
from models_fixture import COURSE, LABELS, STEPS, begin_training, make_models
from pool_fixture import add_label, add_project, add_task
from registry_fixture import register, small_weights
from sqlalchemy.exc import NoResultFound

from maskloop_backend.overview import models as overview
from maskloop_backend.overview.learning import read_learning
from maskloop_backend.overview.model import read_portrait
from maskloop_backend.overview.model_charts import MEAN, draw_curve, draw_loss, draw_reliability, legend
from maskloop_backend.overview.models import Figure, Models, read_models
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, Project, Round, utcnow
from maskloop_learner.select.chart import draw_svg
from maskloop_learner.settings import Settings
from maskloop_queue.rounds import run
from maskloop_queue.triggers import request_training, start_due_round


@pytest.fixture
def project(pool: Pool, settings: Settings) -> int:
    """A project of four rounds, of which the third was rejected."""
    project = add_project(pool, labels=LABELS)
    make_models(pool, project, settings)
    return project


def read(pool: Pool, project: int) -> Models:
    """As it is now."""
    with pool.read() as session:
        return read_models(session, session.get_one(Project, project))


def test_a_real_round_leaves_all_that_is_shown(pool: Pool, settings: Settings) -> None:
    """Losses of every step, Dice with an interval, and bins whose distances are the calibration error."""
    settings.train_steps, settings.train_batch, settings.samples, settings.calibration_images = 3, 2, 2, 0
    settings.validation_share = 0.5
    project = add_project(pool)
    for number in range(1, 7):
        add_label(pool, add_task(pool, project, number))
    request_training(pool, project, cause="cli")
    round_id = start_due_round(pool, project, settings)
    assert round_id is not None
    run(pool, round_id, settings, lambda progress: None, lambda: False)
    found = read(pool, project)
    (version,) = found.versions
    assert (version.made_by, version.cause, version.labels, version.outcome) == ("round 1", "cli", 6, "promoted")
    assert [step for step, _ in version.loss] == [1, 2, 3]
    assert version.dice is not None
    assert version.dice.images is not None
    assert version.dice.images >= 2
    assert version.dice.low is not None
    assert version.dice.high is not None
    assert version.dice.low <= version.dice.mean <= version.dice.high
    bins = version.reliability["Tumor"]
    assert len(bins) == 15
    total = sum(each.pixels for each in bins)
    assert version.ece == pytest.approx(
        sum(abs(each.probability - each.frequency) * each.pixels for each in bins) / total, abs=1e-4
    )
    assert [each.by for each in version.promotions] == ["round 1"]
    assert (found.champion, version.decided_by) == (version, "gate")


def test_versions_are_told_with_figures_decisions_and_standing(pool: Pool, project: int) -> None:
    found = read(pool, project)
    assert [each.model for each in found.versions] == [4, 3, 2, 1]
    assert [each.labels for each in reversed(found.versions)] == [labels for labels, _ in COURSE]
    assert [each.marks for each in found.versions] == [("serving",), ("rejected",), ("served before",), ()]
    assert [each.outcome for each in found.versions] == ["promoted", "rejected", "promoted", "promoted"]
    assert (found.previous, found.older, found.pinned, found.served) == (2, 0, False, None)
    champion = found.champion
    assert champion is not None
    assert champion.dice is not None
    assert champion.dice.mean == pytest.approx(np.mean([each.mean for each in champion.by_label.values()]))
    assert "with 95 % confidence" in champion.reason
    assert champion.parent == 2
    with pool.write() as session:
        session.get_one(Model, 2).fault, session.get_one(Model, 1).pruned_at = "it is lost", utcnow()
        row = session.get_one(Champion, project)
        row.challenger_id, row.pinned = 3, True
    assert [each.marks for each in read(pool, project).versions] == [
        ("serving, pinned",),
        ("in shadow", "rejected"),
        ("served before", "damaged"),
        ("weights removed",),
    ]


def test_only_the_newest_are_read(pool: Pool, project: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "MOST", 3)
    found = read(pool, project)
    assert ([each.model for each in found.versions], found.older) == ([4, 3, 2], 1)


def test_models_of_earlier_releases_and_imports_lack_what_was_not_kept(pool: Pool, settings: Settings) -> None:
    """Means without an interval, no curve, no diagram; an import has a source and no decision."""
    project = add_project(pool)
    register(pool, project, small_weights(1), metrics={"validation": {"Tumor": {"challenger": 0.5}}})
    register(pool, project, small_weights(2), config={"imported": {"source": "medclipseg/BUSI"}})
    new, old = read(pool, project).versions
    assert (old.dice, old.by_label) == (Figure(mean=0.5), {"Tumor": Figure(mean=0.5)})
    assert (old.loss, old.reliability, old.ece, old.labels) == ((), {}, None, None)
    assert (new.made_by, new.dice, new.outcome, new.reason) == ("import of medclipseg/BUSI", None, None, "")
    assert draw_curve([new, old]) is None
    assert draw_reliability(old) is None
    assert draw_loss(old.loss, steps=0) is None


def test_a_project_without_models_is_told_too(pool: Pool) -> None:
    found = read(pool, add_project(pool))
    assert (found.versions, found.champion, found.version, found.fence) == ((), None, None, 0)


def test_the_learning_curve_has_every_model_with_its_band(pool: Pool, project: int) -> None:
    """Over labels in their order; what never served is a ring; lines of labels have no band of their own."""
    versions = read(pool, project).versions
    chart = draw_curve(versions)
    assert chart is not None
    assert [line.name for line in chart.lines] == [MEAN, *sorted(LABELS)]
    mean = chart.lines[0].points
    assert [point.x for point in mean] == [labels for labels, _ in COURSE]
    assert [point.hollow for point in mean] == [False, False, True, False]
    assert all(point.low is not None and point.high is not None and point.low < point.y < point.high for point in mean)
    assert all(point.low is None for line in chart.lines[1:] for point in line.points)
    assert chart.x_ticks == [10, 20, 30, 40]
    assert "model 3, rejected" in draw_svg(chart)
    assert [name for name, _ in legend(chart)] == [MEAN, *sorted(LABELS)]


def test_the_reliability_diagram_has_bins_and_the_diagonal(pool: Pool, project: int) -> None:
    champion = read(pool, project).champion
    assert champion is not None
    chart = draw_reliability(champion)
    assert chart is not None
    *lines, perfect = chart.lines
    assert {line.name for line in lines} == set(LABELS)
    assert [(point.x, point.y) for point in perfect.points] == [(0, 0), (1, 1)]
    assert all(0 <= point.x <= 1 and 0 <= point.y <= 1 for line in lines for point in line.points)
    assert chart.place(0, 0)[0] < chart.place(lines[0].points[0].x, 0)[0]


def test_the_training_that_runs_is_told_with_its_losses(pool: Pool, project: int) -> None:
    with pool.read() as session:
        assert read_learning(session, project) is None
    number = begin_training(pool, project)
    with pool.read() as session:
        found = read_learning(session, project)
    assert found is not None
    assert (found.round, found.labels, found.step, found.steps, found.words) == (number, 40, 120, STEPS, "It learns.")
    chart = draw_loss(found.losses, steps=found.steps)
    assert chart is not None
    assert chart.x_range == (0, STEPS), "the axis is as long as the training"
    for changes, words in (
        ({"progress": {}}, "It reads the images."),
        ({"progress": {"step": 300, "steps": 300, "loss": 0.1}}, "compared with the champion"),
        ({"state": "queued", "progress": {}}, "waits for a training worker"),
        ({"failures": 1, "reason": "OSError: no room"}, "It failed: OSError: no room."),
    ):
        with pool.write() as session:
            row = session.get_one(Round, number)
            for name, value in changes.items():
                setattr(row, name, value)
        with pool.read() as session:
            told = read_learning(session, project)
        assert told is not None
        assert words in told.words


def test_a_portrait_tells_what_the_command_tells(pool: Pool, project: int, command: Command) -> None:
    found = read_portrait(pool, 4)
    shown = " ".join(command("models", "show", "4")[1].split())
    for name, words in found.facts:
        assert " ".join(f"{name} {words}".split()) in shown
    assert found.parents == (2, 1)
    assert [each.part for each in found.comparisons[:2]] == ["all images", "label Cyst"]
    assert found.comparisons[0].verdict.startswith("above +")
    assert {each.part for each in found.comparisons} >= {"size small", "calibration error Tumor", "empty nothing there"}
    assert found.version == read(pool, project).versions[0]
    diff = " ".join(command("models", "diff", "2", "4")[1].split())
    assert found.differences
    for each in found.differences:
        assert f"{each.name}: {each.before} -> {each.after}" in diff
    assert not any("loss" in each.name or "reliability" in each.name for each in found.differences)
    assert len(found.images) >= 1
    assert found.images[0] in diff
    with pytest.raises(NoResultFound):
        read_portrait(pool, 99)
