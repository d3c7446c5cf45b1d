"""Ways in: which masks belong to which image, what is refused and why, without a Label Studio."""

import csv
import hashlib
import io
import json
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from command_fixture import Command
from dataset_files import write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from pool_fixture import add_project
from pycocotools import mask as coco
from transfer_fixture import LIMITS, SIZE, blob, drawn, interface, noise, png, read_all, save, source_of

from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.labelstudio.controls import Control, Interface
from maskloop_backend.transfer import Refused, TransferError, WrongCall
from maskloop_backend.transfer.choosing import Request, recognise
from maskloop_backend.transfer.coco_masks import decode_segmentation, encode_segmentation
from maskloop_backend.transfer.converting import Options, read_options
from maskloop_backend.transfer.drawing import draw
from maskloop_backend.transfer.journal import Journal
from maskloop_backend.transfer.known import Known
from maskloop_backend.transfer.labels import Naming, read_naming
from maskloop_backend.transfer.lists import read_fields
from maskloop_backend.transfer.names import FileNames, find_label, label_folders, plain_name, safe_name, upload_name
from maskloop_backend.transfer.pictures import is_shown, open_pictures
from maskloop_backend.transfer.rasters import read_mask, read_values
from maskloop_backend.transfer.sources import Entry, Source
from maskloop_backend.transfer.uploads import Importer, Target
from maskloop_learner.pool.pool import Pool
from maskloop_learner.settings import get_settings

SHARED = Path(__file__).parents[2] / "shared"
HEIGHT, WIDTH = SIZE
LIVER = Naming("Liver")


def test_masks_are_found_in_folders_of_labels(tmp_path: Path) -> None:
    """masks/LABEL/NAME.png, also in folders of images; a label without a file is absent, an image without one free."""
    save(tmp_path / "images/a.png", noise(1))
    save(tmp_path / "images/day 2/a.jpg", noise(2))
    save(tmp_path / "images/free.png", noise(3))
    save(tmp_path / "masks/Liver/a.png", blob(1))
    save(tmp_path / "masks/Tumor/a.png", blob(2))
    save(tmp_path / "masks/Tumor/day 2/a.png", np.zeros(SIZE, bool))
    (tmp_path / "images/notes.txt").write_text("no image")
    source = source_of(Request(tmp_path))
    read, refused = read_all(source)
    assert refused == {}
    assert drawn(read["a.png"][1]) == {"Liver": blob(1).tolist(), "Tumor": blob(2).tolist()}
    assert drawn(read["day 2/a.jpg"][1]) == {}, "labelled: nothing is there"
    assert read["free.png"][1] is None
    assert source.skipped == [("notes.txt", "a .txt file is no image")]


@pytest.mark.parametrize("name", ["a.png", "a_mask.png", "a-mask.png", "a_Mask.bmp", "a_mask_1.png", "a_seg.png"])
def test_a_mask_of_one_label_is_called_like_its_image(tmp_path: Path, name: str) -> None:
    """The same name or a usual ending."""
    save(tmp_path / "in/a.png", noise(1))
    save(tmp_path / "out" / name, blob(1))
    read, refused = read_all(source_of(Request(tmp_path / "in", masks=tmp_path / "out", naming=LIVER)))
    assert refused == {}
    assert drawn(read["a.png"][1]) == {"Liver": blob(1).tolist()}


def test_masks_beside_their_images(tmp_path: Path) -> None:
    """One folder of both, as BUSI was published: several masks of one image are united, labels may be endings."""
    save(tmp_path / "benign (1).png", noise(1))
    save(tmp_path / "benign (1)_mask.png", blob(1))
    save(tmp_path / "benign (1)_mask_1.png", blob(2))
    save(tmp_path / "b.png", noise(2))
    save(tmp_path / "b_Tumor.png", blob(3))
    read, refused = read_all(source_of(Request(tmp_path, masks=tmp_path, naming=LIVER)))
    assert refused == {}
    assert read.keys() == {"benign (1).png", "b.png"}
    assert drawn(read["benign (1).png"][1]) == {"Liver": (blob(1) | blob(2)).tolist()}
    assert drawn(read["b.png"][1]) == {"Tumor": blob(3).tolist()}


def test_each_bad_file_has_its_reason_and_its_neighbours_go_on(tmp_path: Path) -> None:
    """Another size, damage, no image, a mask without image: one row each."""
    for name in ("good", "size", "broken", "mask"):
        save(tmp_path / f"images/{name}.png", noise(len(name)))
        save(tmp_path / f"masks/{name}.png", blob(1))
    save(tmp_path / "masks/size.png", blob(1, (9, 24)))
    save(tmp_path / "masks/lost.png", blob(1))
    whole = (tmp_path / "images/broken.png").read_bytes()
    (tmp_path / "images/broken.png").write_bytes(whole[:100])
    (tmp_path / "images/text").write_bytes(b"this is no image")
    (tmp_path / "images/empty.png").write_bytes(b"")
    (tmp_path / "masks/mask.png").write_bytes(whole[:60])
    read, refused = read_all(source_of(Request(tmp_path, naming=LIVER)))
    assert read.keys() == {"good.png"}
    assert refused.keys() == {"size.png", "broken.png", "mask.png", "text", "empty.png", "lost.png"}
    assert "24 x 9 pixels, its image 24 x 16" in refused["size.png"]
    assert "damaged" in refused["broken.png"]
    assert "mask.png" in refused["mask.png"]
    assert "no image" in refused["text"]
    assert "empty" in refused["empty.png"]
    assert refused["lost.png"] == "there is no image of this name"


def test_a_mask_fits_the_image_as_it_is_shown(tmp_path: Path) -> None:
    """Exif turns the image, so the mask must be of the turned size."""
    exif = Pillow.Exif()
    exif[0x0112] = 6
    for folder in ("upright", "lying"):
        (tmp_path / folder / "images").mkdir(parents=True)
        Pillow.fromarray(noise(1)).save(tmp_path / folder / "images/a.jpg", exif=exif)
    save(tmp_path / "upright/masks/a.png", blob(1, (WIDTH, HEIGHT)))
    save(tmp_path / "lying/masks/a.png", blob(1))
    read, refused = read_all(source_of(Request(tmp_path / "upright", naming=LIVER)))
    assert (read["a.jpg"][0].width, read["a.jpg"][0].height, refused) == (HEIGHT, WIDTH, {})
    assert "a.jpg" in read_all(source_of(Request(tmp_path / "lying", naming=LIVER)))[1]


@pytest.mark.parametrize(
    ("pixels", "inside"),
    [
        ([[0, 255], [255, 0]], [[0, 1], [1, 0]]),
        ([[0, 1], [1, 0]], [[0, 1], [1, 0]]),
        ([[0, 38], [38, 38]], [[0, 1], [1, 1]]),
        ([[0, 255], [128, 127]], [[0, 1], [1, 0]]),
        ([[0, 0], [0, 0]], [[0, 0], [0, 0]]),
        ([[255, 255], [255, 255]], [[1, 1], [1, 1]]),
        ([[1, 1], [1, 1]], [[1, 1], [1, 1]]),
    ],
)
def test_what_is_inside_a_mask(pixels: list[list[int]], inside: list[list[int]]) -> None:
    """Two values: all but 0; more: brighter than 127; the same as grey, as RGB and in 16 bit."""
    grey = np.array(pixels, np.uint8)
    wanted = np.array(inside, bool)
    colour = np.zeros((2, 2, 3), np.uint8)
    colour[:, :, 0] = grey
    for data in (png(grey), png(colour)):
        np.testing.assert_array_equal(read_mask(data, "m.png"), wanted)
    deep = grey.astype(np.uint16) * (1 if grey.max() <= 1 else 257)
    np.testing.assert_array_equal(read_mask(png(deep), "m.png"), wanted)  # type: ignore[arg-type]


def test_a_mask_of_numbers_is_not_taken_for_an_empty_one() -> None:
    """1 and 2 are neither black and white nor bright: the message shows --values."""
    with pytest.raises(Refused, match=r"0, 1, 2.*--values 2=LABEL"):
        read_mask(png(np.array([[0, 1, 2]], np.uint8)), "m.png")
    clear = Pillow.new("RGBA", (4, 4), (255, 0, 0, 0))
    out = io.BytesIO()
    clear.save(out, "PNG")
    with pytest.raises(Refused, match="transparency"):
        read_mask(out.getvalue(), "m.png")


def test_numbers_of_labels(tmp_path: Path) -> None:
    """Palette and grey masks by --values; a number may be left out, an unknown one is refused."""
    numbers = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(SIZE) % 4
    palette = Pillow.fromarray(numbers).convert("P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 9, 9, 9])
    (tmp_path / "masks").mkdir()
    palette.save(tmp_path / "masks/a.png")
    save(tmp_path / "masks/b.png", numbers)
    for name in "ab":
        save(tmp_path / f"images/{name}.png", noise(ord(name)))
    naming = read_naming(None, "1=Liver, 2=Tumor,3=")
    read, refused = read_all(source_of(Request(tmp_path, naming=naming)))
    assert refused == {}
    for name in ("a.png", "b.png"):
        assert drawn(read[name][1]) == {"Liver": (numbers == 1).tolist(), "Tumor": (numbers == 2).tolist()}
    _, refused = read_all(source_of(Request(tmp_path, naming=read_naming(None, "1=Liver,2=Liver"))))
    assert refused.keys() == {"a.png", "b.png"}
    assert "add 3=LABEL" in refused["b.png"]
    masks = read_values((tmp_path / "masks/b.png").read_bytes(), "b", {1: "Liver", 2: "Liver", 3: ""})
    np.testing.assert_array_equal(masks["Liver"], (numbers == 1) | (numbers == 2))


@pytest.mark.parametrize("values", ["", "Liver", "0=Liver", "1=Liver,1=Tumor", "x=Liver", "70000=Liver"])
def test_wrong_values_are_wrong_calls(values: str) -> None:
    """The message quotes what was typed."""
    with pytest.raises(WrongCall, match="--values"):
        read_naming(None, values)


def write_nifti(path: Path, voxels: "np.ndarray[Any, np.dtype[Any]]") -> None:
    """A NIfTI volume of 1 mm voxels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)


def test_masks_of_volumes(tmp_path: Path) -> None:
    """A NIfTI mask goes slice by slice with its image, by label or by number; PNG masks go with single pictures."""
    chance = np.random.default_rng(0)
    shape = (20, 12, 5)
    write_nifti(tmp_path / "images/x.nii.gz", chance.normal(size=shape).astype(np.float32))
    numbers = chance.integers(0, 3, shape).astype(np.uint8)
    write_nifti(tmp_path / "masks/x.nii.gz", numbers)
    whole, refused = read_all(source_of(Request(tmp_path, naming=LIVER)))
    assert refused == {}
    by_number, _ = read_all(source_of(Request(tmp_path, naming=read_naming(None, "1=Liver,2=Tumor"))))
    assert list(whole) == list(by_number) == [f"x-{number}.png" for number in range(1, 6)]
    areas = []
    for name, (picture, masks) in by_number.items():
        every = whole[name][1]
        assert masks is not None
        assert every is not None
        assert masks["Liver"].shape == (picture.height, picture.width) == (12, 20)
        np.testing.assert_array_equal(masks["Liver"] | masks["Tumor"], every["Liver"])
        areas.append((int(masks["Liver"].sum()), int(masks["Tumor"].sum())))
    assert areas == [(int((plane == 1).sum()), int((plane == 2).sum())) for plane in numbers.transpose(2, 0, 1)]
    assert len({picture.key for picture, _ in whole.values()}) == 5

    (tmp_path / "masks/x.nii.gz").unlink()
    save(tmp_path / "masks/Tumor/x-3.png", blob(1, (12, 20)))
    read, refused = read_all(source_of(Request(tmp_path)))
    assert refused == {}
    assert {name: drawn(masks) for name, (_, masks) in read.items() if masks is not None} == {
        "x-3.png": {"Tumor": blob(1, (12, 20)).tolist()}
    }
    save(tmp_path / "masks/Tumor/x.png", blob(1, (12, 20)))
    assert "5 pictures" in read_all(source_of(Request(tmp_path)))[1]["x.nii.gz"]


def test_several_instances_files_are_asked_about(tmp_path: Path) -> None:
    """Images are not imported without their labels because two files could be meant."""
    for name in ("train", "val"):
        (tmp_path / f"instances_{name}.json").write_text("{}")
    with pytest.raises(WrongCall, match=r"instances_train.json, instances_val.json.*--annotations"):
        source_of(Request(tmp_path))


def test_links_in_circles_end(tmp_path: Path) -> None:
    """A folder that links to itself is read once."""
    save(tmp_path / "in/a.png", noise(1))
    (tmp_path / "in/again").symlink_to(tmp_path / "in")
    assert list(read_all(source_of(Request(tmp_path / "in")))[0]) == ["a.png"]


def test_labels_must_be_in_the_label_config(tmp_path: Path) -> None:
    """Folders, --label and --values: the message has the line to add."""
    save(tmp_path / "images/a.png", noise(1))
    save(tmp_path / "masks/Liver/a.png", blob(1))
    save(tmp_path / "masks/Spleen & co/a.png", blob(1))
    with pytest.raises(TransferError, match=r'(?s)Spleen & co.*Liver, Tumor.*<Label value="Spleen &amp; co"/>'):
        source_of(Request(tmp_path))
    for naming in (Naming("Spleen"), Naming(values={1: "Spleen"})):
        with pytest.raises(TransferError, match='<Label value="Spleen"/>'):
            source_of(Request(tmp_path, naming=naming))


def test_what_tells_the_label_is_asked_for(tmp_path: Path) -> None:
    """Two labels and nothing that tells them apart is a wrong call; with one label it is clear."""
    save(tmp_path / "images/a.png", noise(1))
    save(tmp_path / "masks/a.png", blob(1))
    with pytest.raises(WrongCall, match=r"Liver, Tumor.*--label"):
        source_of(Request(tmp_path))
    read, _ = read_all(source_of(Request(tmp_path), interface("Lesion")))
    assert drawn(read["a.png"][1]) == {"Lesion": blob(1).tolist()}


def test_options_that_would_be_ignored_are_wrong_calls(tmp_path: Path) -> None:
    """A person who gave one means something by it."""
    save(tmp_path / "a.png", noise(1))
    for request, option in (
        (Request(tmp_path, naming=LIVER), "--label"),
        (Request(tmp_path, "images", masks=tmp_path), "--masks"),
        (Request(tmp_path, complete=True), "--complete"),
    ):
        with pytest.raises(WrongCall, match=option):
            source_of(request)


def test_the_way_in_is_recognised(tmp_path: Path) -> None:
    """By what lies in the folder."""
    assert recognise(Request(write_dataset(tmp_path / "busi"))) == "medclipseg"
    save(tmp_path / "flat/a.png", noise(1))
    assert recognise(Request(tmp_path / "flat")) == "images"
    assert recognise(Request(tmp_path / "flat", masks=tmp_path)) == "pairs"
    (tmp_path / "flat/instances_train.json").write_text("{}")
    assert recognise(Request(tmp_path / "flat")) == "coco"
    (tmp_path / "list.csv").write_text("image\nhttps://x.test/1.png\n")
    assert recognise(Request(tmp_path / "list.csv")) == "list"


def test_medclipsegs_layout(tmp_path: Path) -> None:
    """All splits with their prompts; rows without files are refused, twins passed over."""
    root = write_dataset(tmp_path / "set")
    (root / "Train_Folder/label/train 0.png").unlink()
    source = source_of(Request(root), interface("Tumor"))
    read, refused = read_all(source)
    assert len(read) == 12
    assert refused == {
        "Train_text: train 0.png": "line 2, 'train 0.png': there is no mask 'train 0.png' in "
        f"{root / 'Train_Folder/label'}"
    }
    entries = {entry.name: entry.fields for entry in source.entries}
    assert entries["Val_Folder/img/val 0.png"] == {"prompt": "One round tumor at the left.", "split": "val"}
    mask = read["Val_Folder/img/val 0.png"][1]
    assert mask is not None
    truth = np.asarray(Pillow.open(root / "Val_Folder/label/val 0.png")) > 127
    np.testing.assert_array_equal(mask["Tumor"], truth)
    assert drawn(read["Val_Folder/img/val 1.png"][1]) == {}


@pytest.mark.skipif(not (SHARED / "data/busi").is_dir(), reason="BUSI is not in ../shared/data/busi")
def test_busi_in_medclipsegs_layout() -> None:
    """Every row of a published data set gives an image, its mask and its prompt."""
    source = source_of(Request(SHARED / "data/busi"), interface("Tumor"))
    read, refused = read_all(source)
    assert refused == dict(source.refused)
    assert len(read) == len(source.entries) > 50
    assert all(entry.fields["prompt"] for entry in source.entries)
    areas = [mask["Tumor"].mean() for _, mask in read.values() if mask is not None]
    assert len(areas) == len(read)
    assert 0.01 < np.mean(areas) < 0.5


def write_coco(folder: Path, annotations: list[dict[str, Any]], **images: Any) -> None:
    """An instances file of one image, a.png, with categories 7 Liver and 9 Tumor."""
    save(folder / "a.png", noise(1))
    rows = [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT} | images]
    categories = [{"id": 7, "name": "Liver"}, {"id": 9, "name": "Tumor"}, {"id": 11, "name": "unused"}]
    for number, row in enumerate(annotations):
        row.setdefault("id", number)
        row.setdefault("image_id", 1)
        row.setdefault("category_id", 7)
    data = {"images": rows, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(data))


def test_coco_polygons_and_run_lengths(tmp_path: Path) -> None:
    """Several rings, compressed and uncompressed run lengths, a crowd, two annotations of one label: all united."""
    rings = [[2, 2, 8, 2, 8, 8, 2, 8], [12, 4, 20, 4, 20.5, 9.5, 12, 9]]
    compressed = encode_segmentation(blob(1))[0]
    flat = blob(2).T.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=not flat[0]))
    runs = np.diff(starts, append=flat.size).tolist()
    crowd = {"size": list(SIZE), "counts": [0, *runs] if flat[0] else runs}
    rows: list[dict[str, Any]] = [
        {"segmentation": rings},
        {"segmentation": compressed, "category_id": 9},
        {"segmentation": crowd, "category_id": 9, "iscrowd": 1},
    ]
    write_coco(tmp_path, rows)
    read, refused = read_all(source_of(Request(tmp_path)))
    assert refused == {}
    filled = coco.decode(coco.merge(coco.frPyObjects(rings, HEIGHT, WIDTH))).astype(bool)
    assert drawn(read["a.png"][1]) == {"Liver": filled.tolist(), "Tumor": (blob(1) | blob(2)).tolist()}


def test_coco_says_what_is_missing(tmp_path: Path) -> None:
    """A category that is no label, with the line to add; files, sizes and outside paths one by one."""
    write_coco(tmp_path / "labels", [{"segmentation": encode_segmentation(blob(1))[0], "category_id": 11}])
    with pytest.raises(TransferError, match=r'(?s)unused.*<Label value="unused"/>'):
        source_of(Request(tmp_path / "labels"))
    save(tmp_path / "secret.png", noise(5))
    write_coco(tmp_path / "outside", [], file_name="../secret.png")
    assert read_all(source_of(Request(tmp_path / "outside")))[1].keys() == {"../secret.png"}
    write_coco(tmp_path / "size", [], width=WIDTH + 1)
    assert "turned or scaled" in read_all(source_of(Request(tmp_path / "size")))[1]["a.png"]
    (tmp_path / "size/instances.json").write_text('{"images": 3}')
    with pytest.raises(TransferError, match="instances file"):
        source_of(Request(tmp_path / "size"))


def test_coco_images_without_annotations(tmp_path: Path) -> None:
    """They are unlabelled, unless the file or --complete says that nothing is there."""
    write_coco(tmp_path / "open", [])
    assert read_all(source_of(Request(tmp_path / "open")))[0]["a.png"][1] is None
    assert read_all(source_of(Request(tmp_path / "open", complete=True)))[0]["a.png"][1] == {}
    write_coco(tmp_path / "told", [], labelled=True)
    assert read_all(source_of(Request(tmp_path / "told")))[0]["a.png"][1] == {}


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        [[1, 1, 2, 2]],
        [[1, 1, 2, 2, 3, "x"]],
        [[1, 1, 2, 2, 3]],
        [[0, 0, 1e9, 0, 1e9, 1e9]],
        [[0, 0, float("nan"), 0, 4, 4]],
        {"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]},
        {"size": list(SIZE), "counts": [HEIGHT * WIDTH - 1]},
        {"size": list(SIZE), "counts": [-1, HEIGHT * WIDTH + 1]},
        {"size": list(SIZE), "counts": [1 << 40]},
        {"size": list(SIZE), "counts": [0.5]},
        {"size": list(SIZE), "counts": None},
        {"size": list(SIZE), "counts": ""},
        {"size": list(SIZE), "counts": "é"},
        {"size": list(SIZE), "counts": "oooooooooooo"},
        {"size": list(SIZE), "counts": "oooooooooo0"},
        {"size": list(SIZE), "counts": "PPPPPPPP"},
    ],
)
def test_broken_segmentations_are_refused(segmentation: Any) -> None:
    """No crash and no pixel out of nowhere: pycocotools alone reads beyond the end of some of these."""
    with pytest.raises(Refused):
        decode_segmentation(segmentation, width=WIDTH, height=HEIGHT)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_run_lengths_are_cocos(data: st.DataObject) -> None:
    """What pycocotools writes is read to the pixel; what is damaged is refused or is a mask of the size."""
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    chance = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    mask = np.kron(chance.random((height, width)) < chance.random(), np.ones((data.draw(st.integers(1, 30)), 3))) > 0
    segmentation, area, box = encode_segmentation(mask)
    height, width = mask.shape
    np.testing.assert_array_equal(decode_segmentation(segmentation, width=width, height=height), mask)
    assert area == mask.sum()
    rows, columns = np.nonzero(mask)
    if area:
        wide, tall = columns.max() - columns.min() + 1, rows.max() - rows.min() + 1
        assert box == [columns.min(), rows.min(), wide, tall]
    text = list(segmentation["counts"])
    text[data.draw(st.integers(0, len(text) - 1))] = chr(data.draw(st.integers(40, 120)))
    try:
        made = decode_segmentation({**segmentation, "counts": "".join(text)}, width=width, height=height)
    except Refused:
        return
    assert made.shape == mask.shape


def test_addresses_from_lists(tmp_path: Path) -> None:
    """One a line, or a column of a table whose others become fields; what is no address is refused."""
    (tmp_path / "list.txt").write_text("https://x.test/1.png\n\n/data/local-files/?d=a/2.png\nnothing.png\n")
    source = source_of(Request(tmp_path / "list.txt"))
    assert [entry.name for entry in source.entries] == ["https://x.test/1.png", "/data/local-files/?d=a/2.png"]
    assert [name for name, _ in source.refused] == ["nothing.png"]
    (tmp_path / "list.csv").write_text("site;image;prompt\nA;s3://bucket/1.png;one\n")
    (entry,) = source_of(Request(tmp_path / "list.csv")).entries
    assert (entry.name, entry.path, entry.fields) == ("s3://bucket/1.png", None, {"site": "A", "prompt": "one"})
    (tmp_path / "list.csv").write_text("site,picture\nA,B\n")
    with pytest.raises(TransferError, match="site, picture"):
        source_of(Request(tmp_path / "list.csv"))


def test_fields_of_files(tmp_path: Path) -> None:
    """By the file name in the first column; columns that the import writes itself are refused."""
    path = tmp_path / "fields.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["file", "patient group", "prompt"], ["a.png", "A, or B", ""]])
    assert read_fields(path, taken=("image",)) == {"a.png": {"patient group": "A, or B"}}
    with pytest.raises(TransferError, match="'prompt'"):
        read_fields(path, taken=("prompt",))
    path.write_text("file,x\na,1\na,2\n")
    with pytest.raises(TransferError, match="twice"):
        read_fields(path, taken=())


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_file_names_of_labels_are_reversible(text: str) -> None:
    """Any text comes back, and the name is one that every file system takes."""
    name = safe_name(text)
    assert plain_name(name) == text
    assert not set(name) & set('/\\:*?"<>|\0')
    assert name[0] not in ". "
    assert name[-1] not in ". "
    assert find_label(name, [text, "other"]) == text


def test_names_that_collide_get_a_suffix() -> None:
    """Without suffix and case they would be one; labels that differ in case alone stay apart and readable."""
    names = FileNames()
    taken = [
        names.take(name, "PNG") for name in ("a.png", "A.PNG", "a.jpg", "a_2.png", "x/y.png", "con.png", "a" * 300)
    ]
    assert taken[:6] == ["a.png", "A_2.png", "a_3.png", "a_2_2.png", "x%2Fy.png", "%63on.png"]
    assert len(taken[6]) <= 200
    assert names.take("photo.dcm", "JPEG") == "photo.jpg"
    folders = label_folders(["Tumor", "tumor", "TUMOR", "a/b"])
    assert len({folder.casefold() for folder in folders.values()}) == 4
    assert all(plain_name(folder) == label for label, folder in folders.items())
    assert upload_name("deep/folder/x.tiff", b"\x89PNG\r\n\x1a\n") == "deep_folder_x.png"


@pytest.fixture
def command(command: Command, pool: Pool) -> Command:
    """`maskloop ...` with a connected project."""
    add_project(pool)
    return command


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--format", "zip"], "'zip'"),
        (["--as", "drafts"], "'drafts'"),
        (["--values", "Liver"], "'Liver'"),
        (["--label", "Liver", "--values", "1=Liver"], "exclude"),
        (["--window", "wide"], "'wide'"),
        (["--axis", "diagonal"], "'diagonal'"),
        (["--every", "0"], "--every"),
    ],
)
def test_wrong_calls_end_with_two(command: Command, tmp_path: Path, options: list[str], word: str) -> None:
    """One message, no traceback, nothing asked of Label Studio."""
    save(tmp_path / "images/a.png", noise(1))
    code, _, said = command("import", str(tmp_path / "images"), *options)
    assert code == 2
    assert word in said
    assert "Traceback" not in said


def test_an_import_without_a_token_is_one_line(command: Command, tmp_path: Path) -> None:
    """Exit code 1 and what to do."""
    code, _, said = command("import", str(tmp_path))
    assert code == 1
    assert "maskloop connect" in said


def test_a_label_that_polygons_would_change_is_refused_and_a_prediction_is_cleaned() -> None:
    """What a person drew is never cleaned without a word."""
    mask = np.random.default_rng(0).random((200, 200)) < 0.4
    polygons = Interface((Control("polygon", "mask", "image", "image", ("Liver",)),))
    with pytest.raises(Refused, match="'Liver' has too many outlines for polygons; draw it with BrushLabels"):
        draw({"Liver": mask}, polygons, prefix="x", by_hand=True)
    assert draw({"Liver": mask}, polygons, prefix="x", by_hand=False)
    assert len(draw({"Liver": mask}, interface(), prefix="x", by_hand=True)) == 1


def test_a_nifti_mask_of_another_kind_of_image_is_refused(tmp_path: Path) -> None:
    """NIfTI slices are turned to the patient, other pictures are not: the mask would lie wrong without a word."""
    save(tmp_path / "images/x.png", noise(1, (12, 12)))
    write_nifti(tmp_path / "masks/x.nii.gz", np.tri(12, dtype=np.uint8)[:, :, None])
    for naming in (LIVER, read_naming(None, "1=Liver")):
        read, refused = read_all(source_of(Request(tmp_path, naming=naming)))
        assert read == {}
        assert "x.nii.gz: is a NIfTI volume, x.png is not" in refused["x.png"]


def test_a_dicom_file_that_begins_like_a_picture_is_not_passed_on_as_it_is(tmp_path: Path) -> None:
    """Its preamble may hold anything; its bytes hold the patient's name."""
    path = tmp_path / "x.jpg"
    path.write_bytes(png(noise(1))[:128].ljust(128, b"\0") + b"DICM" + b"\x10\0\x10\0PN\x04\0Doe ")
    assert not is_shown(path)
    assert is_shown(save(tmp_path / "y.png", noise(1)))


def test_pictures_can_be_called_after_their_digest(tmp_path: Path) -> None:
    """Folder and file of a PNG may be a patient's name."""
    path = save(tmp_path / "Doe, Jane/scan.png", noise(1))
    (kept,) = open_pictures(path, "Doe, Jane/scan.png", limits=LIMITS, options=Options())
    assert kept.name == "Doe, Jane/scan.png"
    (renamed,) = open_pictures(path, "Doe, Jane/scan.png", limits=LIMITS, options=Options(rename="digest"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (renamed.name, renamed.key) == (f"{digest[:12]}.png", digest)
    assert "Doe" not in json.dumps(renamed.origin)


def test_options_of_the_conversion_are_read_or_refused() -> None:
    """Every option of docs/files.md can be given in the shell."""
    plain = {"window": None, "percentiles": None, "axis": "axial", "every": 1, "strip": False}

    def read(**given: Any) -> Options:
        return read_options(get_settings(), **{**plain, "rename": None, "burned_in": False, **given})

    assert read().percentiles == (0.5, 99.5)
    made = read(percentiles="0,100", window="40,400", rename="digest", burned_in=True)
    assert (made.percentiles, made.window, made.rename, made.allow_burned_in) == ((0, 100), (40, 400), "digest", True)
    for wrong in ({"percentiles": "5"}, {"percentiles": "99,1"}, {"window": "1,2,3"}, {"rename": "patient"}):
        with pytest.raises(WrongCall, match=next(iter(wrong))):
            read(**wrong)


@pytest.mark.parametrize("number", [[1], 1.0, None])
def test_coco_categories_with_odd_ids_are_read_or_refused(tmp_path: Path, number: Any) -> None:
    """JSON holds anything; what is equal means the same category."""
    save(tmp_path / "images/a.png", noise(1))
    row = {"id": 1, "image_id": 1, "category_id": number, "segmentation": [[0, 0, 5, 0, 5, 5]]}
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "x" * 5000}]
    document = {"categories": [{"id": number, "name": "Liver"}], "annotations": [row], "images": images}
    (tmp_path / "instances.json").write_text(json.dumps(document))
    read, refused = read_all(source_of(Request(tmp_path)))
    assert list(drawn(read["a.png"][1]) or {}) == ["Liver"]
    assert list(refused) == ["x" * 5000]


def test_a_coco_polygon_with_a_number_beyond_all_floats_is_refused() -> None:
    """A Python integer has no bound."""
    with pytest.raises(Refused, match="something else than numbers"):
        decode_segmentation([[10**400, 0, 5, 0, 5, 5]], width=9, height=9)


def test_an_image_folder_with_damaged_or_odd_metadata_says_where(tmp_path: Path) -> None:
    """Neither bytes that are no UTF-8 nor names that no file has end in a traceback."""
    (tmp_path / "metadata.jsonl").write_bytes(b'{"file_name": "' + b"x" * 5000 + b'"}\n')
    assert "there is no file" in read_all(source_of(Request(tmp_path)))[1]["x" * 5000]
    (tmp_path / "metadata.jsonl").write_bytes(b'\n{"file_name": "\xff"}\n')
    with pytest.raises(TransferError, match="line 2 is no JSON"):
        source_of(Request(tmp_path))


def test_a_mask_file_that_unpacks_to_a_huge_picture_is_refused_by_its_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A PNG of a few kilobytes may hold gigabytes."""
    monkeypatch.setenv("MASKLOOP_MAX_IMAGE_MEGAPIXELS", "0.01")
    get_settings.cache_clear()
    with pytest.raises(Refused, match=r"over the limit of 0\.01"):
        read_mask(png(np.zeros((200, 200), np.uint8)), "bomb.png")
    get_settings.cache_clear()


def test_many_images_of_one_name_are_named_quickly() -> None:
    """Storages with a folder for each patient have ten thousand files of one name."""
    names, begin = FileNames(), time.process_time()
    given = [names.take("slice.png", "PNG") for _ in range(10_000)]
    assert time.process_time() - begin < 2
    assert (given[0], given[1], given[-1]) == ("slice.png", "slice_2.png", "slice_10000.png")
    assert len(set(given)) == 10_000
    assert names.take("slice_2.png", "PNG") == "slice_2_2.png"


def test_rows_of_fields_without_a_file_are_counted(tmp_path: Path) -> None:
    """A name that was mistyped would lose its fields without a word."""
    client = LabelStudio("http://127.0.0.1:9", "token")
    source = Source("a folder", [Entry("day 2/a.png", tmp_path / "gone.png")])
    importer = Importer(
        Target(client, 7, interface(), "image", dry=True),
        Known(client, 7, interface(), "image"),
        Journal(tmp_path / "7.json"),
        LIMITS,
        Options(),
        {"a.png": {"site": "A"}, "b.png": {"site": "B"}},
    )
    report = importer.run(source, on_entry=lambda: None)
    assert report.skipped == [("b.png", "is a row of --fields without a file of this name")]
    assert list(dict(report.refused)) == ["day 2/a.png"]
