"""What `lint` finds in a data set, and what it leaves alone."""

import json
from collections import Counter
from pathlib import Path

import pytest
from dataset_files import draw_disc, write_dataset, write_pair, write_sheets
from workbook import write_workbook

from maskloop_learner.data.findings import KINDS, Finding
from maskloop_learner.data.layout import Dataset
from maskloop_learner.data.lint import LintReport, lint_dataset, location_words

BUSI = Path(__file__).parents[2] / "shared" / "data" / "busi"


def lint(root: Path) -> LintReport:
    """The report on a folder."""
    return lint_dataset(Dataset.open(root))


def kinds(report: LintReport) -> dict[str, int]:
    """How many findings of each kind."""
    return dict(Counter(finding.kind for finding in report.findings))


def test_a_clean_data_set_has_notes_on_its_prompts_alone(tmp_path: Path) -> None:
    """Location words are told with their share; nothing is a problem; every file is looked at."""
    seen: list[tuple[int, int]] = []
    report = lint_dataset(Dataset.open(write_dataset(tmp_path)), on_file=lambda done, total: seen.append((done, total)))
    assert (set(kinds(report)), report.healthy) == ({"location"}, True)
    assert seen == [(number, 13) for number in range(1, 14)]
    facts = {sheet.sheet: sheet for sheet in report.sheets}
    assert (facts["Train_text"].rows, facts["Train_text"].usable, facts["Train_text"].prompts) == (8, 8, 2)
    assert facts["Train_text"].location_share == 7 / 8
    assert facts["Test_text_underdescriptive"].location_share == 0
    told = next(finding.message for finding in report.findings if finding.sheet == "Train_text")
    assert told.startswith("88% of the prompts say where the lesion is (left 7)")


def test_missing_files_duplicates_contradictions_and_empty_prompts(tmp_path: Path) -> None:
    """Each is told with its sheet; identical rows are a note, the others are problems."""
    root = write_dataset(tmp_path)
    row = [f"train {0}.png", "Tumor.", "train 0.png"]
    rows = [row, row, [row[0], "Other.", row[2]], ["gone.png", "p", "gone.png"], ["train 1.png", "", "train 1.png"]]
    write_sheets(root, {"Train_text": [*rows, ["", "p", "m"]]})
    found = [finding for finding in lint(root).findings if finding.sheet == "Train_text"]
    assert {finding.kind: finding.level for finding in found} == {
        "repeated": "note",
        "contradiction": "problem",
        "no-image": "problem",
        "empty-prompt": "problem",
        "no-name": "problem",
    }


def test_the_same_picture_in_two_splits(tmp_path: Path) -> None:
    """By its bytes under another name, and by its name alone when the files are not there."""
    root = write_dataset(tmp_path)
    copy = root / "Test_Folder" / "img" / "test 1.png"
    copy.write_bytes((root / "Train_Folder" / "img" / "train 3.png").read_bytes())
    found = [finding for finding in lint(root).findings if finding.kind == "same-image"]
    assert [finding.message for finding in found] == [
        "'test 1.png' is the same picture as 'train 3.png' of the train split"
    ]
    write_sheets(root, {"Val_text": [["gone.png", "p", "m"]], "Test_text_original": [["gone.png", "p", "m"]]})
    told = [(finding.sheet, finding.message) for finding in lint(root).findings if finding.kind == "same-name"]
    assert told == [("Test_text_original", "'gone.png' is in Val_text too")]


def test_sizes_that_differ_and_files_that_are_damaged(tmp_path: Path) -> None:
    """A mask of the same shape is a note, of another shape a problem, an unreadable one too."""
    root = write_dataset(tmp_path)
    _, mask = draw_disc(1, radius=5)
    labels = root / "Train_Folder" / "label"
    mask.resize((28, 20)).save(labels / "train 0.png")
    mask.resize((40, 56)).save(labels / "train 1.png")
    (labels / "train 2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = {finding.kind: finding for finding in lint(root).findings if finding.kind != "location"}
    assert {kind: finding.name for kind, finding in found.items()} == {
        "scaled": "train 0.png",
        "size": "train 1.png",
        "unreadable": "train 2.png",
    }
    assert "56 x 40 pixels, its mask 28 x 20" in found["scaled"].message
    assert not lint(root).healthy


def test_sheets_that_are_empty_unreadable_or_unknown(tmp_path: Path) -> None:
    """None of them ends the look at the others."""
    root = write_dataset(tmp_path)
    folder = root / "Prompts_Folder"
    write_workbook(folder / "Val_text.xlsx", {"Sheet1": []})
    write_workbook(folder / "Train_text_10.xlsx", {"Sheet1": [["File", "Text"]]})
    write_workbook(folder / "Train_text_70.xlsx", {"Sheet1": []})
    (folder / "~$Train_text.xlsx").write_bytes(b"a lock of a spreadsheet program")
    report = lint(root)
    found = {finding.sheet: finding.kind for finding in report.findings if finding.kind.endswith("-sheet")}
    assert found == {
        "Val_text": "empty-sheet",
        "Train_text_10": "unreadable-sheet",
        "Train_text_70": "unknown-sheet",
    }
    assert {facts.sheet for facts in report.sheets} >= {"Train_text", "Val_text"}


def test_variants_of_other_images_and_shares_that_do_not_grow(tmp_path: Path) -> None:
    """Then figures of variants, and of shares, cannot be compared."""
    root = write_dataset(tmp_path)
    extra = write_pair(root / "Test_Folder", "extra.png", seed=99)
    write_sheets(root, {"Test_text_contradictory": [extra]})
    write_sheets(root, {"Train_text_10": [["train 7.png", "No tumor.", "train 7.png"]]})
    told = {finding.kind: (finding.sheet, finding.message) for finding in lint(root).findings}
    assert told["other-images"] == ("Test_text_contradictory", "4 images are in one of it and Test_text_original")
    assert told["not-nested"][0] == "Train_text_10"
    assert "1 of its 1 images are not in Train_text_25" in told["not-nested"][1]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("One small tumor at the top left in the breast ultrasound image.", ["top", "left"]),
        ("polyp, located in Center of the image", ["center"]),
        ("a glioma tumor in the frontal region", ["frontal"]),
        ("Normal head of the pancreas", ["head"]),
        ("No tumor in the breast ultrasound image.", []),
        ("Copyright of a bright, uprightly drawn stop", []),
        ("One large triangular-shaped benign tumor", []),
    ],
)
def test_location_words(prompt: str, words: list[str]) -> None:
    """Whole words only, in any case."""
    assert location_words(prompt) == words


def test_the_report_is_json(tmp_path: Path) -> None:
    """With levels, so that a script need not know the kinds."""
    report = json.loads(json.dumps(lint(write_dataset(tmp_path / "x")).to_dict()))
    assert (report["dataset"], report["healthy"], len(report["sheets"])) == ("x", True, 13)
    assert {finding["level"] for finding in report["findings"]} == {"note"}
    assert {Finding(kind, "").level for kind in KINDS} == {"problem", "note"}


def test_busi_leaks_locations_in_its_prompts() -> None:
    """83 % of the published training prompts; most images are not here, and that is told image by image."""
    if not BUSI.is_dir():
        pytest.skip("the BUSI images are not beside this checkout")
    report = lint(BUSI)
    facts = {sheet.sheet: sheet for sheet in report.sheets}
    assert facts["Train_text"].location_share == pytest.approx(0.83, abs=0.005)
    assert facts["Test_text_missing_location"].location_share == 0
    assert set(kinds(report)) == {"no-image", "location", "not-nested"}
