"""Prompt workbooks with all the quirks that published ones have."""

from pathlib import Path

import pytest
from workbook import Cell, write_prompts, write_workbook

from maskloop_learner.data.sheets import Row, SheetError, read_sheet

BUSI = Path(__file__).parents[2] / "shared" / "data" / "busi" / "Prompts_Folder"


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Where the test's workbook goes."""
    return tmp_path / "Train_text.xlsx"


def test_rows_are_read_by_the_names_of_their_columns(book: Path) -> None:
    """The order of the columns, their case and further columns do not matter."""
    write_prompts(book, [["m.png", "x", "a polyp", "a.png"]], header=["ground  truth", "Notes", "DESCRIPTION", "image"])
    assert read_sheet(book).rows == (Row(2, "a.png", "m.png", "a polyp"),)


def test_the_mask_column_may_be_called_mask(book: Path) -> None:
    """As in one published set."""
    write_prompts(book, [["a.png", "a polyp", "m.png"]], header=["Image", "Description", "Mask"])
    assert read_sheet(book).rows[0].mask == "m.png"


def test_prompts_lose_line_breaks_and_double_spaces(book: Path) -> None:
    """Every prompt of seven published sets ends with a line break; names keep their single spaces."""
    write_prompts(book, [[" 97 Benign Image.png", "located in  of\tthe image\n", "97 Benign Image.png\n"]])
    assert read_sheet(book).rows == (Row(2, "97 Benign Image.png", "97 Benign Image.png", "located in of the image"),)


@pytest.mark.parametrize("rows", [[], [[]], [["Image", "Description", "Mask"]], [["", None, " "]]])
def test_an_empty_sheet_or_a_header_alone_has_no_rows(book: Path, rows: list[list[Cell]]) -> None:
    """No error: some published sets have no validation rows."""
    sheet = read_sheet(write_workbook(book, {"Sheet1": rows}))
    assert (sheet.rows, sheet.twins, sheet.nameless) == ((), (), ())


def test_numbers_are_names(book: Path) -> None:
    """A spreadsheet program stores a name of digits as a number."""
    write_prompts(book, [[12, 3.5, "12.0"]])
    assert read_sheet(book).rows == (Row(2, "12", "12.0", "3.5"),)


def test_blank_lines_count_and_are_no_rows(book: Path) -> None:
    """Line numbers are those that a person sees in the file, even when it begins with blank lines."""
    write_workbook(book, {"S": [[], ["", ""], ["Image", "Description", "Mask"], [], ["a.png", "p", "m.png"]]})
    assert [row.line for row in read_sheet(book).rows] == [5]


def test_a_line_without_an_image_is_told(book: Path) -> None:
    """Something is in it, so somebody meant something."""
    write_prompts(book, [["a.png", "p", "m.png"], [None, "p", "m.png"]])
    sheet = read_sheet(book)
    assert (len(sheet.rows), sheet.nameless) == (1, (3,))


def test_identical_rows_collapse(book: Path) -> None:
    """The row stays once; where it comes again is told; strict reading allows it."""
    write_prompts(book, [["a.png", "p", "m.png"], ["b.png", "p", "m.png"], ["a.png", "p\n", "m.png"]])
    sheet = read_sheet(book, strict=True)
    assert [row.image for row in sheet.rows] == ["a.png", "b.png"]
    assert [(twin.first.line, twin.line, twin.fields) for twin in sheet.twins] == [(2, 4, ())]
    assert sheet.clashes == ()


def test_rows_that_contradict_are_listed_with_their_lines(book: Path) -> None:
    """The first stays; strict reading refuses and names lines and columns."""
    write_prompts(book, [["a.png", "p", "m.png"], ["a.png", "q", "m.png"], ["a.png", "p", "n.png"]])
    sheet = read_sheet(book)
    assert sheet.rows == (Row(2, "a.png", "m.png", "p"),)
    assert [(twin.line, twin.fields) for twin in sheet.clashes] == [(3, ("prompt",)), (4, ("mask",))]
    with pytest.raises(SheetError, match=r"lines 2 and 3 are both of 'a\.png' with another prompt; lines 2 and 4"):
        read_sheet(book, strict=True)


@pytest.mark.parametrize(
    "header",
    [
        ["File", "Description", "Ground Truth"],
        ["Image", "Description"],
        ["Image", "Description", "Mask", "Ground Truth"],
        ["Image", "Image", "Description", "Mask"],
    ],
)
def test_another_header_is_refused_with_what_was_found(book: Path, header: list[Cell]) -> None:
    """A missing column and a doubled one: the message lists the wanted names and the found ones."""
    write_prompts(book, [["a.png", "p", "m.png", "n.png"]], header=header)
    with pytest.raises(SheetError) as raised:
        read_sheet(book)
    assert "'Image', 'Description' or 'Prompt', 'Ground Truth' or 'Mask'" in str(raised.value)
    assert "sheet 'Sheet1' has " + ", ".join(map(repr, header)) in str(raised.value)


def test_the_table_is_found_among_other_sheets(book: Path) -> None:
    """Empty sheets and notes are passed over; two tables are not guessed between."""
    table = [["Image", "Description", "Mask"], ["a.png", "p", "m.png"]]
    write_workbook(book, {"Notes": [["made by hand"]], "Sheet2": [], "Prompts": table})
    assert len(read_sheet(book).rows) == 1
    write_workbook(book, {"One": table, "Two": table})
    with pytest.raises(SheetError, match="the sheets 'One', 'Two' are all tables"):
        read_sheet(book)


def test_what_is_no_workbook_is_refused(book: Path) -> None:
    """A missing file, a text, a folder: each names the file."""
    refusal = r"Train_text\.xlsx: the workbook cannot be read"
    with pytest.raises(SheetError, match=refusal):
        read_sheet(book)
    book.write_text("Image,Description")
    with pytest.raises(SheetError, match=refusal):
        read_sheet(book)
    book.unlink()
    book.mkdir()
    with pytest.raises(SheetError, match=refusal):
        read_sheet(book)


def test_the_published_sheets_of_busi() -> None:
    """78 test images in each of five variants, no duplicates, no prompt with a line break."""
    if not BUSI.is_dir():
        pytest.skip("the published sheets of BUSI are not beside this checkout")
    counts = {path.stem: len(read_sheet(path, strict=True).rows) for path in BUSI.glob("*.xlsx")}
    assert {counts[name] for name in counts if name.startswith("Test_text_")} == {78}
    assert [counts[f"Train_text{tail}"] for tail in ("_10", "_25", "_50", "")] == [62, 156, 312, 624]
    assert [counts[f"Val_text{tail}"] for tail in ("_10", "_25", "_50", "")] == [7, 19, 39, 78]
    assert all("\n" not in row.prompt for path in BUSI.glob("*.xlsx") for row in read_sheet(path).rows)
