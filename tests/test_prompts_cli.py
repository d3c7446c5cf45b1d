"""`maskloop prompts`: templates are shown, changed and tried; a workbook's rows find their tasks."""

import json
from functools import partial
from pathlib import Path

import pytest
from command_fixture import Command
from pool_fixture import add_project, add_task
from sqlalchemy import select
from workbook import write_prompts

from maskloop_backend.labelstudio.controls import Control, Interface
from maskloop_backend.prompting import count_tokens, store_sheet_prompts, too_long
from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Event, Project, Task

RICH = "[{size} ]{finding}[ at the {location}] in a breast ultrasound"


@pytest.fixture
def command(command: Command) -> Command:
    """`maskloop prompts ...`."""
    return partial(command, "prompts")


@pytest.fixture
def project(pool: Pool) -> int:
    """Two labels and three tasks, one with fields; returns its id in the pool."""
    made = add_project(pool, labels=("Tumor", "Cyst"))
    for number in (1, 2, 3):
        add_task(pool, made, number)
    with pool.write() as session:
        first = session.scalars(select(Task).order_by(Task.id)).first()
        assert first is not None
        first.data = {"size": "small", "location": "top"}
    return made


def prompts_in(pool: Pool, project: int) -> dict[str, str]:
    with pool.read() as session:
        return session.get_one(Project, project).prompts


def test_set_and_show(command: Command, project: int, pool: Pool) -> None:
    """The template is kept, its renderings on the tasks are shown, and a located one is flagged."""
    code, out, err = command("set", RICH, "--label", "Tumor")
    assert (code, out, err) == (0, "Tumor: tumor in a breast ultrasound\n", "")
    assert prompts_in(pool, project) == {"Tumor": RICH, "Cyst": "cyst"}
    assert command("set", "no {label}", "--all", "--negative")[:2] == (0, "Tumor: no tumor\nCyst: no cyst\n")
    code, out, _ = command("show", "--json")
    tumor, cyst = json.loads(out)
    assert (tumor["template"], tumor["default"], tumor["negative"]) == (
        RICH,
        "tumor in a breast ultrasound",
        "no tumor",
    )
    assert (tumor["tasks"], tumor["sources"], tumor["fallbacks"]) == (3, {"template": 3}, {})
    assert tumor["located"] == [{"task": 1, "prompt": "small tumor at the top in a breast ultrasound"}]
    assert tumor["examples"][0] == {"prompt": "tumor in a breast ultrasound", "tasks": 2}
    assert cyst["sources"] == {"default": 3}
    code, out, _ = command("show")
    assert code == 0
    assert "Tumor: 1 prompts tell a location and never validate; task 1: 'small tumor at the top" in out
    with pool.read() as session:
        assert list(session.scalars(select(Event.kind))).count("prompts.changed") == 2


def test_a_template_of_all_labels_takes_the_place_of_their_own(command: Command, project: int, pool: Pool) -> None:
    """It must tell labels apart; a missing slot is counted; an empty text takes it away again."""
    code, _, err = command("set", "lesion in a scan", "--all")
    assert code == 1
    assert "labels 'Tumor' and 'Cyst' would both be asked by 'lesion in a scan'" in err
    assert command("set", "{finding} of the {organ}", "--all")[0] == 0
    assert prompts_in(pool, project) == {"*": "{finding} of the {organ}"}
    out = command("show")[1]
    assert "Tumor: 3 of 3 tasks are asked by the label's name: the slot 'organ' of the template is empty here" in out
    assert command("set", "", "--all")[:2] == (0, "Tumor: tumor\nCyst: cyst\n")
    assert prompts_in(pool, project) == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["set", "a {b", "--label", "Tumor"], "opens no slot"),
        (["set", "a", "--label", "Node"], "there is no label 'Node'; the labels are: Tumor, Cyst"),
        (["set", "a"], "either --label LABEL or --all"),
        (["set", "cyst", "--label", "Tumor"], "would both be asked by 'cyst'"),
        (["preview", "a ]"], "closes nothing"),
        (["preview", "a", "--field", "size"], "must look like \"size=small\", got 'size'"),
    ],
)
def test_what_cannot_be_set_is_one_line(command: Command, project: int, words: list[str], said: str) -> None:
    code, _, err = command(*words)
    assert code == 1
    assert said in err
    assert err.count("\n") == 1


def test_preview(command: Command) -> None:
    """Whole, for validation, and less; with warnings. It needs no project."""
    code, out, err = command("preview", RICH, "--field", "size=small", "--field", "location=top left")
    assert code == 0
    assert out.splitlines()[0] == "small tumor at the top left in a breast ultrasound"
    assert "  validation  small tumor in a breast ultrasound" in out
    assert "  less        tumor" in out
    assert "'top left' tells a location" in err
    found = json.loads(command("preview", "{finding} of {organ}", "--label", "Cyst", "--json")[1])
    assert (found["text"], found["source"], found["location"]) == ("cyst", "default", None)
    long = " ".join(["hypoechoic"] * 20)
    _, _, err = command("preview", long)
    assert "the model reads 32: it sees 'hypoechoic" in err


def write_sheet(folder: Path) -> Path:
    rows = [
        ["1.png", "One small tumor at the center\n", "1.png"],
        ["2.png", "Tumor visible.", "2.png"],
        ["2.png", "Tumor visible.", "2.png"],
        ["9.png", "No tumor", "9.png"],
        ["3.jpg", "", "3.png"],
    ]
    return write_prompts(folder / "Train_text.xlsx", rows)


def test_a_sheet_is_told_before_it_is_taken(command: Command, project: int, tmp_path: Path, pool: Pool) -> None:
    """Matches by name and stem; what fits nothing, comes twice, is empty or tells a location is said."""
    file = str(write_sheet(tmp_path))
    code, _, err = command("sheet", file, "--dry-run")
    assert (code, "choose one with --label; the labels are: Tumor, Cyst" in err) == (1, True)
    code, out, _ = command("sheet", file, "--label", "Tumor", "--dry-run", "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["rows"], told["stored"], told["no task"]) == (4, 0, ["line 5: 9.png"])
    assert told["location"] == ["1.png: One small tumor at the center"]
    assert told["no prompt"] == ["line 6: 3.jpg"]
    assert told["twice"] == ["lines 3 and 4 are both of '2.png' and identical"]
    code, out, _ = command("sheet", file, "--label", "Tumor", "--dry-run")
    assert "4 rows, 2 of 3 tasks get a prompt for Tumor (dry run)" in out
    code, _, err = command("sheet", str(tmp_path / "none.xlsx"), "--label", "Tumor")
    assert code == 1
    assert "the workbook cannot be read" in err
    with pool.read() as session:
        assert "prompts.imported" not in list(session.scalars(select(Event.kind)))


def test_a_sheet_is_taken_over(command: Command, project: int, tmp_path: Path, pool: Pool) -> None:
    """Prompts are kept with the tasks, beside those of other labels; what is asked follows at once."""
    file = str(write_sheet(tmp_path))
    for label in ("Cyst", "Tumor"):
        code, out, _ = command("sheet", file, "--label", label, "--json")
        assert (code, json.loads(out)["stored"]) == (0, 2)
    with pool.read() as session:
        tasks = session.scalars(select(Task).order_by(Task.ls_id)).all()
        assert session.get_one(Project, project).sheet_digest
    text = "One small tumor at the center"
    both = {"Tumor": "Tumor visible.", "Cyst": "Tumor visible."}
    assert [task.sheet_prompts for task in tasks] == [{"Tumor": text, "Cyst": text}, both, {}]
    assert [bool(task.prompt_digest) for task in tasks] == [True, True, False]
    asked = tasks[0].prompts["Tumor"]
    assert (asked["text"], asked["source"], asked["located"], asked["plain"]) == (text, "sheet", True, "tumor")
    tumor = json.loads(command("show", "--json")[1])[0]
    assert tumor["sources"] == {"sheet": 2, "default": 1}
    assert [each["task"] for each in tumor["located"]] == [1]


def test_what_was_typed_counts_for_more_than_a_sheet(project: int, pool: Pool) -> None:
    """A sheet makes another prediction version and changes what its tasks are asked; typed words stay."""
    with pool.write() as session:
        row = session.get_one(Project, project)
        first, second, third = session.scalars(select(Task).order_by(Task.ls_id))
        first.typed_prompts = {"Cyst": "a round cyst"}
        store_sheet_prompts(session, row, {task.id: {"Cyst": "Cyst visible."} for task in (first, second)})
        assert row.sheet_digest
        before = row.sheet_digest
        store_sheet_prompts(session, row, {second.id: {"Tumor": "Tumor visible."}})
        assert row.sheet_digest != before
        asked = [{label: told["text"] for label, told in task.prompts.items()} for task in (first, second, third)]
        assert asked[0]["Cyst"] == "a round cyst"
        assert asked[1] == {"Tumor": "Tumor visible.", "Cyst": "Cyst visible."}
        assert (asked[2], third.prompt_digest) == ({}, "")
        assert len({task.prompt_digest for task in (first, second, third)}) == 3


def test_a_sheet_is_for_images_on_which_its_label_is_drawn(command: Command, pool: Pool, tmp_path: Path) -> None:
    """Of a task with two images, the one with the label."""
    tags = (Control("brush", "a", "left", "left", ("Tumor",)), Control("brush", "b", "right", "right", ("Cyst",)))
    made = add_project(pool, labels=("Tumor", "Cyst"))
    with pool.write() as session:
        session.get_one(Project, made).control = Interface(tags).as_json()
    for part in ("left", "right"):
        add_task(pool, made, 1, part=part)
    told = json.loads(command("sheet", str(write_sheet(tmp_path)), "--label", "Cyst", "--json")[1])
    assert (told["stored"], told["no row"]) == (1, [])
    with pool.read() as session:
        kept = {task.part: task.sheet_prompts for task in session.scalars(select(Task))}
    assert kept == {"left": {}, "right": {"Cyst": "One small tumor at the center"}}


def test_only_long_prompts_are_counted(tmp_path: Path) -> None:
    """With the tokenizer of the backbone; the published ones read more than nano."""
    text = "hypoechoic mass with irregular spiculated margins and posterior acoustic shadowing " * 3
    assert too_long(["tumor in a breast ultrasound"], BACKBONES["nano"], tmp_path) == []
    (warning,) = too_long([text, text], BACKBONES["nano"], tmp_path)
    assert "reads 32" in warning
    assert count_tokens(BACKBONES["clip-vit-b16"], tmp_path)("tumor") == 3
