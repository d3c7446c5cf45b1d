"""Fully labelled folders for simulations: what fits together, what is refused, and how images are parted."""

import re
from pathlib import Path

import numpy as np
import pytest
from dataset_files import draw_disc
from PIL import Image as Pillow
from simulate_fixture import write_discs
from workbook import write_prompts

from maskloop_learner.data.files import ItemError
from maskloop_learner.pool.groups import GroupingError
from maskloop_learner.select.ground import draw_first, part, survey
from maskloop_learner.select.labelled import Labelled, LabelledError, Subject, read_labelled

PROMPTS = {"disc": "bright disc"}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Ten images of five patients with a mask each."""
    return write_discs(tmp_path, 10)


def test_masks_of_the_images_names_are_of_one_label(folders: tuple[Path, Path]) -> None:
    """By name, in order, with the label's prompt and the patient in the name."""
    found = read_labelled(*folders, prompts=PROMPTS, group_pattern=r"^(p\d+)_")
    assert [subject.name for subject in found.subjects[:3]] == ["p0_0.png", "p0_1.png", "p1_2.png"]
    assert [subject.group for subject in found.subjects[:3]] == ["p0", "p0", "p1"]
    assert found.notes == ()
    image, masks = found.subjects[0].open()
    assert image.shape == (40, 56, 3)
    assert masks.keys() == {"disc"}
    assert masks["disc"].any()
    assert found.subjects[0].prompts == PROMPTS


def test_without_a_prompt_a_label_is_asked_for_by_its_name(folders: tuple[Path, Path]) -> None:
    """`lesion` where nobody says what the masks are of."""
    assert read_labelled(*folders, prompts={}).prompts == {"lesion": "lesion"}


def test_folders_of_masks_are_labels(tmp_path: Path) -> None:
    """Every image needs one of each; those without are left out and told."""
    images, masks = write_discs(tmp_path, 4)
    for label in ("grey_matter", "white_matter"):
        (masks / label).mkdir()
        for path in masks.glob("*.png"):
            (masks / label / path.name).write_bytes(path.read_bytes())
    for path in masks.glob("*.png"):
        path.unlink()
    (masks / "white_matter" / "p0_0.png").unlink()
    found = read_labelled(images, masks, prompts={})
    assert found.prompts == {"grey_matter": "grey matter", "white_matter": "white matter"}
    assert [subject.name for subject in found.subjects] == ["p0_1.png", "p1_2.png", "p1_3.png"]
    assert found.notes == ("1 images without masks are left out: 'p0_0.png'",)
    assert found.subjects[0].open()[1].keys() == {"grey_matter", "white_matter"}


def test_masks_without_images_are_refused(folders: tuple[Path, Path]) -> None:
    """They say that the folders do not belong together; the first few are named."""
    images, masks = folders
    for name in ("p0_0.png", "p0_1.png", "p1_2.png", "p1_3.png"):
        (images / name).unlink()
    said = "4 of 10 masks have no image of their name: 'p0_0.png', 'p0_1.png', 'p1_2.png' and 1 more"
    with pytest.raises(LabelledError, match=said):
        read_labelled(images, masks, prompts=PROMPTS)


def test_a_mask_may_be_of_another_format_than_its_image(folders: tuple[Path, Path]) -> None:
    """The name before the dot counts; where that is not enough, it is said."""
    images, masks = folders
    Pillow.open(images / "p0_0.png").save(images / "p0_0.jpg")
    with pytest.raises(LabelledError, match="two images are called 'p0_0'"):
        read_labelled(images, masks, prompts=PROMPTS)
    (images / "p0_0.png").unlink()
    assert read_labelled(images, masks, prompts=PROMPTS).subjects[0].name == "p0_0.jpg"


def test_folders_with_nothing_in_them_are_refused(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    """Each with what is missing."""
    images, masks = folders
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabelledError, match="there is no image in it"):
        read_labelled(tmp_path / "empty", masks, prompts=PROMPTS)
    with pytest.raises(LabelledError, match="there is no mask in it, nor a folder for each label"):
        read_labelled(images, tmp_path / "empty", prompts={})
    with pytest.raises(LabelledError, match="the masks of 'disc' are looked for in"):
        read_labelled(images, tmp_path / "empty", prompts=PROMPTS)
    with pytest.raises(LabelledError, match="masks of 2 labels need a folder for each: disc, hole"):
        read_labelled(images, masks, prompts={**PROMPTS, "hole": "hole"})


def test_a_pattern_that_groups_nothing_is_refused(folders: tuple[Path, Path]) -> None:
    """Grouping by nothing would leak patients without a word."""
    with pytest.raises(LabelledError, match=re.escape(r"the group pattern 'case(\\d+)' finds nothing in any name")):
        read_labelled(*folders, prompts=PROMPTS, group_pattern=r"case(\d+)")
    with pytest.raises(GroupingError, match="is no regular expression"):
        read_labelled(*folders, prompts=PROMPTS, group_pattern="(")


def test_a_workbook_names_masks_and_prompts(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """What is left out is told: rows that contradict an earlier one, images without a row, rows without files. A prompt
    that tells the place gives way to the label's."""
    images, masks = folders
    (masks / "p0_0.png").rename(masks / "p0_0_mask.png")
    rows = [
        ["p0_0.png", "One round mass.", "p0_0_mask.png"],
        ["p0_1.png", "One round mass at the top left.", "p0_1.png"],
        ["gone.png", "One round mass.", "gone.png"],
        ["p0_0.png", "Two masses.", "p0_0_mask.png"],
    ]
    write_prompts(tmp_path / "prompts.xlsx", rows)
    found = read_labelled(images, masks, prompts=PROMPTS, sheet=tmp_path / "prompts.xlsx")
    assert {subject.name: dict(subject.prompts) for subject in found.subjects} == {
        "p0_0.png": {"disc": "One round mass."},
        "p0_1.png": {"disc": "bright disc"},
    }
    assert found.subjects[0].masks["disc"].name == "p0_0_mask.png"
    twice, unnamed, absent, placed = found.notes
    assert twice == "lines 2 and 5 are both of 'p0_0.png' with another prompt; the first row of an image counts"
    listed = "'p1_2.png', 'p1_3.png', 'p2_4.png' and 5 more"
    assert unnamed == f"8 images that prompts.xlsx does not name are left out: {listed}"
    assert absent == "1 of 3 rows of prompts.xlsx are left out: their image or mask is not there"
    assert "1 of 2 prompts tell where the lesion is" in placed


def test_a_workbook_of_other_images_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """None of its rows can be used."""
    write_prompts(tmp_path / "prompts.xlsx", [["gone.png", "One mass.", "gone.png"]])
    with pytest.raises(LabelledError, match="none of its 1 rows names an image and a mask that are there"):
        read_labelled(*folders, prompts=PROMPTS, sheet=tmp_path / "prompts.xlsx")


def test_a_file_that_is_no_image_is_named(folders: tuple[Path, Path]) -> None:
    """When the folder is surveyed, before anything is trained."""
    (folders[0] / "p0_0.png").write_bytes(b"no picture")
    with pytest.raises(ItemError, match=r"p0_0\.png"):
        survey(read_labelled(*folders, prompts=PROMPTS).subjects)


def test_the_survey_finds_empty_masks(tmp_path: Path) -> None:
    """One mark for each image."""
    found = read_labelled(*write_discs(tmp_path, 5, empty=2), prompts=PROMPTS)
    assert survey(found.subjects)[1] == [False, False, True, True, True]


def grouped(folders: tuple[Path, Path]) -> Labelled:
    """With patients."""
    return read_labelled(*folders, prompts=PROMPTS, group_pattern=r"^(p\d+)_")


def test_no_patient_is_on_both_sides(folders: tuple[Path, Path]) -> None:
    """Whole groups test, as many as the share asks for; every image is on one side."""
    found = grouped(folders)
    ground = part(found.subjects, survey(found.subjects)[0], test_share=0.4)
    test, pool = ({found.subjects[place].group for place in places} for places in (ground.test, ground.pool))
    assert not test & pool
    assert len(ground.test) == 4
    assert sorted(ground.test + ground.pool) == list(range(10))
    assert all(group >= 0 for group in ground.groups)


def test_the_test_images_stay_whatever_the_order_of_the_folder(folders: tuple[Path, Path]) -> None:
    """They are frozen by name."""
    found = grouped(folders)
    looks = survey(found.subjects)[0]
    there = part(found.subjects, looks, test_share=0.4)
    back = part(found.subjects[::-1], looks[::-1], test_share=0.4)
    names = [
        {subjects[place].name for place in ground.test}
        for subjects, ground in ((found.subjects, there), (found.subjects[::-1], back))
    ]
    assert names[0] == names[1]


def test_a_picture_that_was_saved_anew_is_on_the_side_of_the_first(tmp_path: Path) -> None:
    """A test image that was learnt from under another name tests nothing."""
    images, masks = write_discs(tmp_path, 8)
    picture = Pillow.open(images / "p0_0.png")
    for name in ("copy.png", "small.png"):
        (picture if name == "copy.png" else picture.resize((48, 34))).save(images / name)
        draw_disc(0, radius=7)[1].resize((56, 40) if name == "copy.png" else (48, 34)).save(masks / name)
    found = read_labelled(images, masks, prompts=PROMPTS)
    ground = part(found.subjects, survey(found.subjects)[0], test_share=0.5)
    names = [subject.name for subject in found.subjects]
    alike = [ground.groups[names.index(name)] for name in ("p0_0.png", "copy.png", "small.png")]
    assert alike[0] == alike[1] == alike[2] >= 0
    inside = [names.index(name) in ground.test for name in ("p0_0.png", "copy.png", "small.png")]
    assert len(set(inside)) == 1


def test_one_group_cannot_be_parted(folders: tuple[Path, Path]) -> None:
    """There would be nothing to test on."""
    found = read_labelled(*folders, prompts=PROMPTS, group_pattern="^p")
    with pytest.raises(LabelledError, match="all 10 images belong to one group"):
        part(found.subjects, survey(found.subjects)[0], test_share=0.4)


def test_first_labels_are_drawn_by_seed(folders: tuple[Path, Path]) -> None:
    """Equal for equal seeds, others for others, without repetition; more of them hold the fewer."""
    pool = list(range(100, 140))
    first = draw_first(pool, 8, seed=3)
    assert first == draw_first(pool, 8, seed=3) == sorted(set(first))
    assert first != draw_first(pool, 8, seed=4)
    assert set(first) <= set(draw_first(pool, 20, seed=3)) <= set(pool)
    with pytest.raises(LabelledError, match="41 first labels cannot be drawn from a pool of 40 images"):
        draw_first(pool, 41, seed=0)


def test_a_subject_reads_masks_of_its_images_size(tmp_path: Path) -> None:
    """A mask of the same shape is scaled, another is refused by name."""
    images, masks = write_discs(tmp_path, 1)
    path = masks / "p0_0.png"
    subject = Subject(name="p0_0.png", image=images / "p0_0.png", masks={"disc": path}, prompts=PROMPTS)
    Pillow.open(path).resize((112, 80), Pillow.Resampling.NEAREST).save(path)
    assert np.array_equal(subject.open()[1]["disc"].shape, (40, 56))
    Pillow.open(path).resize((40, 80)).save(path)
    with pytest.raises(ItemError, match="another shape"):
        subject.open()
