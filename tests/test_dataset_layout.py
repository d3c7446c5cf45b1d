"""MedCLIPSeg's folder layout: splits, shares, variants, names that differ, files that lack."""

from pathlib import Path

import numpy as np
import pytest
from dataset_files import SIDE, VARIANTS, draw_disc, write_dataset, write_pair, write_sheets
from PIL import Image as Pillow

from maskloop_learner.data.files import ItemError, open_item
from maskloop_learner.data.layout import Dataset, LayoutError, Variant, walk_sheets

BUSI = Path(__file__).parents[2] / "shared" / "data" / "busi"


def make_flat(root: Path, rows: list[list[str]]) -> Dataset:
    """A flat data set with one test sheet."""
    for folder in ("img", "label"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    write_sheets(root, {"Test_text_original": rows})
    return Dataset.open(root)


def test_splits_shares_and_variants(tmp_path: Path) -> None:
    """Each sheet gives its rows, in its order, with the files of its own split."""
    dataset = Dataset.open(write_dataset(tmp_path / "discs"))
    assert (dataset.name, dataset.percentages, dataset.variants) == ("discs", (10, 25, 50, 100), VARIANTS)
    counts = [len(dataset.read("train", percent=percent).items) for percent in dataset.percentages]
    assert counts == [1, 2, 4, 8]
    assert [len(dataset.read("val").items), len(dataset.read("val", percent=10).items)] == [2, 1]
    for variant in dataset.variants:
        part = dataset.read("test", prompts=variant)
        assert [item.name for item in part.items] == ["test 0.png", "test 1.png", "test 2.png"]
        assert part.findings == ()
    assert part.items[0].image == tmp_path / "discs" / "Test_Folder" / "img" / "test 0.png"
    assert part.items[0].prompt == "Tumor seen."
    assert dataset.read("test").items[0].prompt == "One round tumor at the left."
    assert len(list(walk_sheets(dataset))) == 13


def test_a_flat_data_set(tmp_path: Path) -> None:
    """All splits' files lie together, as in a download that is not sorted yet."""
    row = write_pair(tmp_path, "a.png", seed=1)
    item = make_flat(tmp_path, [row]).read("test").items[0]
    assert (item.image, item.mask) == (tmp_path / "img" / "a.png", tmp_path / "label" / "a.png")


def test_masks_of_other_names_and_lossy_ones(tmp_path: Path) -> None:
    """The sheet names the mask; a JPEG's greys are cut at 127, and come out as they went in."""
    rows = [
        write_pair(tmp_path, "X.png", seed=1, mask="X_Segmentation.png"),
        write_pair(tmp_path, "Y.png", seed=2, mask="Y.jpeg"),
    ]
    items = make_flat(tmp_path, rows).read("test").items
    assert [item.mask.name for item in items] == ["X_Segmentation.png", "Y.jpeg"]
    for seed, item in enumerate(items, 1):
        truth = np.asarray(draw_disc(seed, radius=9)[1]) > 127
        image, mask = open_item(item)
        assert image.shape == (*SIDE, 3)
        assert mask.dtype == np.dtype(bool)
        # JPEG blurs the edge by a little: less than one pixel in fifty of the disc.
        assert (mask ^ truth).sum() <= (0 if item.mask.suffix == ".png" else truth.sum() / 50)
    assert len(np.unique(np.asarray(Pillow.open(items[1].mask)))) > 2


def test_a_name_without_its_suffix_finds_the_one_file(tmp_path: Path) -> None:
    """Digits that a spreadsheet took for a number; two files of that stem are not guessed between."""
    write_pair(tmp_path, "12.png", seed=1)
    dataset = make_flat(tmp_path, [["12", "p", "12"]])
    assert dataset.read("test").items[0].image.name == "12.png"
    (tmp_path / "img" / "12.jpg").write_bytes(b"")
    assert Dataset.open(tmp_path).read("test").items == ()


def test_rows_without_files_are_findings(tmp_path: Path) -> None:
    """Missing image, missing mask, empty prompt, a path instead of a name: each is told with its line."""
    good = write_pair(tmp_path, "a.png", seed=1)
    (tmp_path / "img" / "c.png").write_bytes(b"")
    rows = [good, ["b.png", "p", "b.png"], ["c.png", "p", "c.png"], ["d.png", " ", "d.png"], ["../a.png", "p", "a.png"]]
    part = make_flat(tmp_path, rows).read("test")
    assert [item.name for item in part.items] == ["a.png"]
    assert [finding.kind for finding in part.findings] == ["no-image", "no-mask", "empty-prompt", "no-image"]
    assert part.findings[0].message == f"line 3, 'b.png': there is no image 'b.png' in {tmp_path / 'img'}"
    assert "no file name" in part.findings[3].message


def test_a_sheet_that_lacks_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    """Some published sets have original test prompts alone."""
    dataset = make_flat(tmp_path, [])
    assert dataset.variants == ("original",)
    with pytest.raises(LayoutError, match=r"no Prompts_Folder/Test_text_contradictory\.xlsx; the sheets are: Test_"):
        dataset.read("test", prompts="contradictory")


@pytest.mark.parametrize(
    ("split", "prompts", "percent", "message"),
    [
        ("train", "original", 30, "one of 10, 25, 50, 100 %, got 30"),
        ("test", "original", 10, "always whole, got 10 %"),
        ("val", "contradictory", 100, "original prompts alone, got 'contradictory'"),
        ("test", "short", 100, "one of original, contradictory, missing_location, .*, got 'short'"),
        ("tests", "original", 100, "one of train, val, test, got 'tests'"),
    ],
)
def test_what_no_data_set_has_is_refused(tmp_path: Path, split: str, prompts: str, percent: int, message: str) -> None:
    """The message has the value and what may be asked for."""
    dataset = make_flat(tmp_path, [])
    with pytest.raises(LayoutError, match=message):
        dataset.read(split, prompts=prompts, percent=percent)  # type: ignore[arg-type]


def test_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    """What is missing, and what is there instead."""
    with pytest.raises(LayoutError, match="'/nowhere' is no folder"):
        Dataset.open(Path("/nowhere"))
    (tmp_path / "pictures").mkdir()
    with pytest.raises(LayoutError, match="there is no Prompts_Folder in it, but pictures"):
        Dataset.open(tmp_path)
    (tmp_path / "Prompts_Folder").mkdir()
    with pytest.raises(LayoutError, match=r"neither Train_Folder, .* but Prompts_Folder, pictures"):
        Dataset.open(tmp_path)


def test_masks_of_another_size(tmp_path: Path) -> None:
    """The same shape is scaled; another shape, as when somebody turned it, is refused with both sizes."""
    row = write_pair(tmp_path, "a.png", seed=1)
    item = make_flat(tmp_path, [row]).read("test").items[0]
    truth = open_item(item)[1]
    mask = Pillow.open(item.mask)
    mask.resize((SIDE[1] * 2, SIDE[0] * 2), Pillow.Resampling.NEAREST).save(item.mask)
    assert np.array_equal(open_item(item)[1], truth)
    mask.transpose(Pillow.Transpose.ROTATE_90).save(item.mask)
    with pytest.raises(ItemError, match=r"label/a\.png: the mask has 40 x 56 pixels, its image 56 x 40"):
        open_item(item)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    """The message names the file."""
    row = write_pair(tmp_path, "a.png", seed=1)
    item = make_flat(tmp_path, [row]).read("test").items[0]
    item.mask.write_text("not a picture")
    with pytest.raises(ItemError, match=r"label/a\.png: the file is no image"):
        open_item(item)


def test_busi_as_it_is_published() -> None:
    """Of 780 rows those whose files are here become items, empty masks included."""
    if not BUSI.is_dir():
        pytest.skip("the BUSI images are not beside this checkout")
    dataset = Dataset.open(BUSI)
    parts = [dataset.read("train"), dataset.read("val"), dataset.read("test")]
    items = [item for part in parts for item in part.items]
    assert len(items) == len(list((BUSI / "img").iterdir()))
    assert sum(len(part.sheet.rows) for part in parts) == 780
    assert sum(len(part.findings) for part in parts) == 780 - len(items)
    variants: list[Variant] = [*dataset.variants]
    assert {len(dataset.read("test", prompts=variant).items) for variant in variants} == {len(parts[2].items)}
    assert {bool(open_item(item)[1].any()) for item in parts[2].items} == {True, False}
