"""Words of place: found in the published sheets and in reports' styles, not in names that only hold such a word."""

from pathlib import Path

import pytest

from maskloop_learner.data.sheets import read_sheet
from maskloop_learner.prompts.location import find_location

BUSI = Path(__file__).parents[2] / "shared" / "data" / "busi" / "Prompts_Folder"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("One small round benign tumor at the center in the breast ultrasound image.", "center"),
        ("Two medium tumors at the center, top left in the image", "center, top left"),
        ("one small pink polyp, located in top, left of the image", "top, left"),
        ("A brown melanoma lesion located in the lower right region.", "lower right"),
        ("mass in the upper outer quadrant", "upper"),
        ("Bilateral pulmonary infection, two infected areas", "Bilateral"),
        ("infection of all left lung and middle lower right lung", "left"),
        ("MRI reveals a glioma tumor in the left frontal region", "left frontal"),
        ("pituitary adenoma in the sellar region", "sellar"),
        ("meningioma of the right parietal lobe", "right parietal"),
        ("mass in the head of the pancreas", "head of the pancreas"),
        ("nodule at 3 o'clock", "3 o'clock"),
        ("nodule at ten o’clock", "ten o’clock"),
        ("opacity in the RUL", "RUL"),
        ("lesion near the edge of the image", "near the edge"),
        ("mass below the skin", "below the"),
        ("spot at (120, 45)", "(120, 45)"),
        ("cyst 3 cm from the nipple", "3 cm from"),
        ("cyst at x = 40, y = 30", "x = 40, y = 30"),
        ("a mid-left mass", "mid-left"),
        ("retroareolar mass", "retroareolar"),
        ("lesion in the bottom-right corner", "bottom-right corner"),
        ("left-sided effusion", "left-sided"),
    ],
)
def test_locations_are_quoted(text: str, words: str) -> None:
    assert find_location(text) == words


@pytest.mark.parametrize(
    "text",
    [
        "tumor in a breast ultrasound",
        "white matter in a T1-weighted brain MRI",
        "left ventricle in a cardiac MRI",
        "right atrium",
        "lateral ventricles",
        "inferior vena cava",
        "tumor in the right breast ultrasound",
        "left knee MRI",
        "hypoechoic mass with posterior acoustic shadowing",
        "lesion with irregular borders and complex internal texture",
        "frontal chest X-ray",
        "lateral view of the spine",
        "one kidney-shaped benign tumor",
        "heart-shaped polyp located in of the image",
        "12 mm mass, 30 % solid",
        "mid-grey lesion of lower contrast",
        "peripheral zone of the prostate",
        "middle-aged patient",
        "stop sign, copyright, uplifting, centered",
        "",
    ],
)
def test_names_and_looks_are_no_location(text: str) -> None:
    assert find_location(text) is None


def test_the_labels_own_words_do_not_count() -> None:
    """A label may be called after its place; another place in its prompt is one still."""
    assert find_location("left lung with opacity", allow="Left lung") is None
    assert find_location("left lung with opacity", allow=["RightLung", "left_lung"]) is None
    assert find_location("left lung, lower zone", allow="Left lung") == "lower"
    assert find_location("left and right lung", allow="LeftLung") == "left and right"
    assert find_location("left lung with opacity", allow="Lung") == "left"


def test_the_published_sheets_of_busi() -> None:
    """A row that describes a lesion tells where; the variants without location tell nothing, in no case."""
    if not BUSI.is_dir():
        pytest.skip("the published sheets of BUSI are not beside this checkout")
    for name in ("Train_text", "Val_text", "Test_text_original", "Test_text_overdescriptive"):
        for row in read_sheet(BUSI / f"{name}.xlsx").rows:
            assert (find_location(row.prompt, allow="Tumor") is not None) == ("normal" not in row.image), row
    for name in ("Test_text_missing_location", "Test_text_underdescriptive"):
        assert {find_location(row.prompt) for row in read_sheet(BUSI / f"{name}.xlsx").rows} == {None}
