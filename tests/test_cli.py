"""The commands that need no Label Studio: score, rank, models, evaluate, rollback, train, and how they fail."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_fixture import Command
from PIL import Image as Pillow
from pool_fixture import add_label, add_project, add_task

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Round
from maskloop_learner.settings import Settings, get_settings
from maskloop_queue.rounds import run
from maskloop_queue.triggers import request_training, start_due_round


@pytest.fixture
def command(command: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`maskloop ...` with few samples."""
    monkeypatch.setenv("MASKLOOP_SAMPLES", "3")
    get_settings.cache_clear()
    return command


@pytest.fixture
def trained(pool: Pool, settings: Settings) -> int:
    """A project of six tasks, two labelled, with a model of two steps; returns its id in the pool."""
    settings.train_steps, settings.train_batch, settings.samples = 2, 2, 3
    project = add_project(pool)
    tasks = [add_task(pool, project, ls_id) for ls_id in range(1, 7)]
    for task in tasks[:2]:
        add_label(pool, task)
    train_again(pool, settings, project)
    return project


def train_again(pool: Pool, settings: Settings, project: int) -> int:
    """One round on the labels of now; returns its id."""
    request_training(pool, project, cause="cli")
    round_id = start_due_round(pool, project, settings)
    if round_id is None:
        raise RuntimeError("no round was opened")
    run(pool, round_id, settings, lambda progress: None, lambda: False)
    return round_id


def parse(out: str) -> Any:
    """The JSON document that a command printed."""
    return json.loads(out)


def test_score_and_rank(command: Command, trained: int, pool: Pool) -> None:
    """Scoring predicts each image once; the ranking is ordered, complete and tells the label behind it."""
    code, out, _ = command("score", "--json")
    assert (code, parse(out)["scored"], parse(out)["failed"]) == (0, 6, [])
    assert parse(command("score", "--json")[1])["scored"] == 0
    code, out, _ = command("rank", "--json")
    ranked = parse(out)
    assert (code, ranked["unscored"]) == (0, 0)
    assert sorted(item["task"] for item in ranked["ranking"]) == [3, 4, 5, 6]
    values = [item["uncertainty"] for item in ranked["ranking"]]
    assert values == sorted(values, reverse=True)
    assert all(0 <= value <= 1 for value in values)
    assert [item["rank"] for item in ranked["ranking"]] == [1, 2, 3, 4]
    assert all(item["labels"]["Tumor"] == pytest.approx(item["uncertainty"]) for item in ranked["ranking"])
    code, out, _ = command("rank", "--limit", "2")
    assert code == 0
    assert "4 unlabelled images" in out
    by_spot = parse(command("rank", "--by", "variance/patch_max", "--json")[1])["ranking"]
    assert sorted(item["task"] for item in by_spot) == [3, 4, 5, 6]
    spots = [item["uncertainty"] for item in by_spot]
    assert spots == sorted(spots, reverse=True)
    assert spots != values
    code, _, said = command("rank", "--by", "entropy")
    assert code == 1
    assert "boundary_norm" in said
    assert "'entropy'" in said


def test_a_wrong_call_is_one_line(command: Command) -> None:
    """Exit code 2 and what is wrong, no traceback."""
    code, _, said = command("rank", "--limit", "0")
    assert code == 2
    assert "--limit" in said
    assert "Traceback" not in said


def test_models_and_rollback(command: Command, trained: int, pool: Pool, settings: Settings) -> None:
    """Two models, the second one the champion; after a rollback the first serves, pinned."""
    settings.gate_margin, settings.gate_allow_few, settings.train_seed = 0.99, True, 1
    train_again(pool, settings, trained)
    listed = parse(command("models", "--json")[1])
    for item in listed:
        assert item["temperature"] > 0
        assert item["calibration"].keys() == item["dice"].keys()
        assert all(0 <= report["ece"] <= 1 for report in item["calibration"].values())
        assert item["ranking"]["method"] == "monte-carlo"  # six images are too few to choose fewer samples
    assert [(item["model"], item["champion"], item["state"]) for item in listed] == [
        (1, False, "promoted"),
        (2, True, "promoted"),
    ]
    assert set(listed[0]["dice"]) == {"Tumor"}
    code, out, _ = command("rollback")
    assert code == 0
    assert "as soon as `maskloop up`" in out
    with pool.read() as session:
        champion = session.get_one(Champion, trained)
    assert (champion.model_id, champion.pinned) == (1, True)
    assert champion.version_id in out
    assert "champion" in command("models")[1]


def test_evaluate(command: Command, trained: int, tmp_path: Path) -> None:
    """Dice per label on a folder; a mask that lacks is named."""
    images, masks = tmp_path / "img", tmp_path / "masks" / "Tumor"
    images.mkdir()
    masks.mkdir(parents=True)
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (20, 30), dtype=np.uint8)
        Pillow.fromarray(pixels).save(images / f"{number}.png")
        Pillow.fromarray(((pixels > 128) * 255).astype(np.uint8)).save(masks / f"{number}.png")
    words = ("evaluate", "--images", str(images), "--masks", str(masks.parent))
    code, out, _ = command(*words, "--json")
    assert code == 0
    assert parse(out)["images"] == 3
    assert 0 <= parse(out)["dice"]["Tumor"] <= 1
    (masks / "1.png").unlink()
    code, _, err = command(*words)
    assert code == 1
    assert f"{masks / '1.png'} is missing" in err


def test_errors_are_one_line_with_the_cure(command: Command, pool: Pool) -> None:
    """No project, no model, no such project, nothing to roll back to, no Redis: exit code 1 and no traceback."""
    code, _, err = command("rank")
    assert (code, err.count("\n")) == (1, 1)
    assert "maskloop connect" in err
    add_project(pool)
    for words, cure in [
        (("rank",), "maskloop train"),
        (("rank", "--project", "99"), "connected are: 7 (test)"),
        (("rollback",), "no earlier model"),
        (("train",), "maskloop up"),
        (("connect", "--url", "nonsense", "--project", "1", "--token", "x"), "must look like"),
        (("connect", "--url", "http://127.0.0.1:9", "--project", "1"), "--token"),
        (("connect", "--url", "http://127.0.0.1:9", "--project", "1", "--token", "x", "--prompt", "y"), "Tumor="),
        (("demo", "--prompt", "x"), "--images"),
    ]:
        code, out, err = command(*words)
        assert code == 1, (words, out, err)
        assert err.count("\n") == 1, err
        assert cure in err, (words, err)


def test_doctor_says_what_is_wrong(command: Command, pool: Pool) -> None:
    """Without running processes it is not healthy, and each problem has a cure."""
    code, out, _ = command("doctor", "--json")
    report = parse(out)
    assert (code, report["healthy"]) == (1, False)
    problems = [f for section in report["sections"] for f in section["findings"] if f["level"] == "problem"]
    assert {"Start `maskloop up`; its log says why a process ended.", "Run `maskloop connect`."} <= {
        problem["fix"] for problem in problems
    }
    assert command("doctor")[0] == 1


def test_a_round_that_ended_is_left_alone(trained: int, pool: Pool, settings: Settings) -> None:
    """Jobs are at-least-once: running it again publishes nothing."""
    run(pool, 1, settings, lambda progress: None, lambda: False)
    with pool.read() as session:
        assert session.get_one(Round, 1).attempts == 1
        assert session.get_one(Champion, trained).fence == 1
