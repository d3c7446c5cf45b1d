"""`maskloop batch` from the shell: what is chosen and why, one batch at a time, tables for people and scripts."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from command_fixture import Command
from pool_fixture import add_label, add_model, add_project, add_task
from sqlalchemy import select
from web_fixture import add_prediction, add_version

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Batch, Project, Task

SIZE = 20


@pytest.fixture
def project(pool: Pool) -> int:
    """A project with twenty tasks, the later the more uncertain the model is of them."""
    number = add_project(pool)
    add_version(pool, number, add_model(pool, number), "v1")
    for ls_id in range(1, SIZE + 1):
        task = add_task(pool, number, ls_id)
        with pool.read() as session:
            digest = str(session.get_one(Task, task).image_digest)
        add_prediction(pool, "v1", digest, uncertainty=ls_id / 100)
    return number


def parse(out: str) -> Any:
    """The JSON document that a command printed."""
    return json.loads(out)


def tasks_of(found: Any) -> list[int]:
    """Label Studio's ids of a batch that was printed as JSON, in its order."""
    return [item["task"] for item in found["items"]]


def test_a_batch_from_the_trial_to_the_end(command: Command, pool: Pool, project: int) -> None:
    """A trial changes nothing and shows what is locked afterwards; a second batch is refused until the first ends."""
    plan = ["batch", "create", "--size", "4", "--random-share", "0", "--json"]
    code, out, _ = command(*plan, "--dry-run")
    trial = parse(out)
    assert (code, tasks_of(trial), trial["candidates"]) == (0, [20, 19, 18, 17], SIZE)
    assert parse(command("batch", "list", "--json")[1]) == []
    code, out, _ = command(*plan)
    made = parse(out)
    assert (code, made["batch"], made["state"], made["strategy"], made["version"]) == (
        0,
        1,
        "open",
        "uncertainty",
        "v1",
    )
    assert [(item["position"], item["task"], item["reason"]) for item in made["items"]] == [
        (item["position"], item["task"], item["reason"]) for item in trial["items"]
    ]
    assert made["options"]["score"] == "predictive_entropy/mean"
    assert [item["score"] for item in made["items"]] == [0.2, 0.19, 0.18, 0.17]
    assert all(item["reason"] and item["figures"]["rank"] for item in made["items"])
    code, _, said = command(*plan)
    assert code == 1
    assert "batch 1 of this project is open" in said
    with pool.read() as session:
        first = session.scalars(select(Task).where(Task.ls_id == 20)).one()
    add_label(pool, first.id)
    code, out, _ = command("batch", "show")
    assert code == 0
    assert "1 labelled" in out
    assert "most uncertain" in " ".join(out.split())
    found = parse(command("batch", "show", "--json")[1])
    assert [item["state"] for item in found["items"]] == ["labelled", "waiting", "waiting", "waiting"]
    code, out, _ = command("batch", "close")
    assert (code, "Batch 1 is closed: 1 of 4" in out) == (0, True)
    code, _, said = command("batch", "undo")
    assert code == 1
    assert "batch 1 is closed since" in said
    assert tasks_of(parse(command(*plan)[1])) == [19, 18, 17, 16], "what was left may be chosen again"
    assert parse(command("batch", "undo", "--json")[1])["state"] == "undone"
    code, out, _ = command("batch", "list")
    assert code == 0
    assert ("closed" in out, "undone" in out) == (True, True)
    assert parse(command("batch", "show", "1", "--json")[1])["counts"]["labelled"] == 1
    with pool.read() as session:
        assert [row.seed for row in session.scalars(select(Batch).order_by(Batch.id))] == [1, 2]


def test_a_batch_is_written_as_a_table(command: Command, project: int, tmp_path: Path) -> None:
    """CSV unless the file's name or an option says JSON; all figures are in it."""
    command("batch", "create", "--size", "10", "--seed", "5")
    shown = parse(command("batch", "show", "--json")[1])
    code, out, _ = command("batch", "export")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert [int(row["task"]) for row in rows] == tasks_of(shown)
    assert sum(row["slot"] == "random" for row in rows) == 1
    assert all(row["reason"] and row["rank"] for row in rows)
    for name, more in (("list.json", ()), ("list.txt", ("--format", "json"))):
        target = tmp_path / name
        assert command("batch", "export", "1", "--out", str(target), *more)[0] == 0
        assert json.loads(target.read_text()) == shown
    target = tmp_path / "list.csv"
    command("batch", "export", "--out", str(target))
    assert list(csv.DictReader(io.StringIO(target.read_text()))) == rows
    code, _, said = command("batch", "export", "--out", str(tmp_path / "no" / "folder.csv"))
    assert (code, "cannot be written" in said) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--strategy", "guess"), "no strategy 'guess'; choose one of uncertainty, "),
        (("--size", "21", "--keep-duplicates"), "ask for 20 at most"),
        (("--size", "2", "--random-share", "1.5"), "random_share must be between 0 and 1, got 1.5"),
        (("--size", "2", "--seed", "-1"), "the seed must be 0 or more, got -1"),
    ],
)
def test_a_wish_that_cannot_be_met_is_one_clear_line(
    command: Command, project: int, words: tuple[str, ...], said: str
) -> None:
    code, _, error = command("batch", "create", *words)
    assert code == 1
    assert said in error
    assert parse(command("batch", "list", "--json")[1]) == []


def test_without_a_model_there_are_strategies_that_need_none(command: Command, pool: Pool) -> None:
    """The default needs one, and says so with the way out."""
    project = add_project(pool)
    code, _, said = command("batch", "show")
    assert (code, "no batch yet" in said) == (1, True)
    code, _, said = command("batch", "create")
    assert (code, "import images" in said) == (1, True)
    for ls_id in range(1, 5):
        add_task(pool, project, ls_id)
    code, _, said = command("batch", "create", "--size", "2")
    assert code == 1
    assert "no model yet" in said
    assert "'random'" in said
    code, out, _ = command("batch", "create", "--size", "2", "--strategy", "random", "--json")
    made = parse(out)
    assert (code, made["version"], made["images"], made["items"][0]["score"]) == (0, None, 2, None)


def test_a_score_that_was_not_kept_is_named_with_the_way_out(command: Command, project: int) -> None:
    """These images were predicted by an earlier release, which kept the mean alone; a name that is none is another."""
    for words in (("--score", "mutual_information/mean"), ("--strategy", "mutual_information")):
        code, _, said = command("batch", "create", "--size", "2", *words)
        assert code == 1
        assert "mutual_information/mean was kept of no image" in said
        assert "train once more, or take the score 'predictive_entropy/mean'" in said
    code, _, said = command("batch", "create", "--size", "2", "--score", "beauty/mean")
    assert (code, "the score must be predictive_entropy|" in said) == (1, True)


def test_a_batch_keeps_what_was_to_be_said_of_its_choice(command: Command, pool: Pool, project: int) -> None:
    """Where it fell back and what it passed over: in the trial, the batch, its table and its export."""
    add_task(pool, project, 21)
    with pool.write() as session:
        for task in session.scalars(select(Task)):
            task.group_key = "P1" if task.ls_id > 15 else ""
    wanted = (
        "1 of 21 candidates came last, as predictive_entropy/mean is not known of them. "
        "4 images passed over, as their group has as many as may be"
    )
    plan = ["batch", "create", "--size", "3", "--random-share", "0", "--group-cap", "1"]
    assert parse(command(*plan, "--json", "--dry-run")[1])["note"] == wanted
    assert wanted in " ".join(command(*plan)[1].split())
    assert wanted in " ".join(command("batch", "show")[1].split())
    found = parse(command("batch", "show", "--json")[1])
    assert (tasks_of(found), found["note"]) == ([20, 15, 14], wanted)
    rows = list(csv.DictReader(io.StringIO(command("batch", "export")[1])))
    assert [row["note"] for row in rows] == [wanted] * 3


def test_a_title_with_brackets_is_shown_as_it_is(command: Command, pool: Pool, project: int) -> None:
    """Tables take brackets for markup unless they are told."""
    with pool.write() as session:
        session.get_one(Project, project).title = "Lesions [/old] [left]"
    for words in (("rank",), ("batch", "list"), ("models", "list")):
        code, out, said = command(*words)
        assert code == 0, said
        assert "Lesions [/old] [left]: " in " ".join(out.split())
