"""Rows of a prompt sheet find their tasks by file name, exactly first, and are never given on a guess."""

import pytest

from maskloop_learner.data.sheets import Row
from maskloop_learner.prompts.matching import match_rows, task_names


def rows(*names: str) -> list[Row]:
    return [Row(line, name, name, f"prompt of {name}") for line, name in enumerate(names, 2)]


@pytest.mark.parametrize(
    ("url", "data", "names"),
    [
        ("/data/upload/3/1a2b3c4d-x.png", {}, ("1a2b3c4d-x.png", "x.png")),
        ("/data/upload/3/1a2b3c4d-", {}, ("1a2b3c4d-",)),
        ("/data/local-files/?d=scans/a%20b/x.png", {}, ("x.png",)),
        ("s3://bucket/deep/97%20Benign%20Image.png", {}, ("97 Benign Image.png",)),
        ("https://host/x.png?token=abc", {"name": "C:\\images\\y.png"}, ("y.png", "x.png")),
        ("data:image/png;base64,AA/x.png", {"origin": {"file": "d/z.dcm"}}, ("z.dcm",)),
        ("", {"origin.file": "d/z.dcm", "filename": 7}, ("z.dcm",)),
        ("http://[broken/x.png", {}, ("x.png",)),
    ],
)
def test_names_of_a_task(url: str, data: dict[str, object], names: tuple[str, ...]) -> None:
    assert task_names(url, data) == names


def test_whole_names_go_before_stems_and_case() -> None:
    found = match_rows(
        rows("a.png", "a.jpg", "B.png", "97 Benign Image.png", "gone.png"),
        {1: ["a.png"], 2: ["a.jpg"], 3: ["b.tif"], 4: ["97_Benign_Image.png"], 5: ["new.png"]},
    )
    assert {task: row.image for task, row in found.rows.items()} == {
        1: "a.png",
        2: "a.jpg",
        3: "B.png",
        4: "97 Benign Image.png",
    }
    assert [row.image for row in found.unmatched] == ["gone.png"]
    assert found.lacking == (5,)
    assert found.unclear == {}


def test_one_image_in_two_tasks_has_one_row() -> None:
    found = match_rows(rows("a.png"), {1: ["1a2b3c4d-a.png", "a.png"], 2: ["a.png"]})
    assert {task: row.line for task, row in found.rows.items()} == {1: 2, 2: 2}


def test_two_rows_that_fit_alike_are_not_guessed_between() -> None:
    """And a row that has its task is not given to another of a similar name."""
    found = match_rows(rows("a.png", "a.jpg"), {1: ["a.tif"]})
    assert found.rows == {}
    assert [row.image for row in found.unclear[1]] == ["a.png", "a.jpg"]
    assert found.unmatched == ()
    found = match_rows(rows("a.png"), {1: ["a.png"], 2: ["a.tif"]})
    assert list(found.rows) == [1]
    assert found.lacking == (2,)
