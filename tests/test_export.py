"""Labels out of the pool: three formats, whole or not at all, and back in the same masks to the pixel."""

import hashlib
import json
import shutil
import subprocess
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_fixture import Command
from PIL import Image as Pillow
from pool_fixture import add_project
from pycocotools.coco import COCO
from transfer_fixture import blob, drawn, interface, noise, png, read_all, source_of

from maskloop_backend.transfer.choosing import Request, recognise
from maskloop_learner.pool.masks import Mask, encode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Image, Label, Task
from maskloop_learner.pool.snapshot import freeze_snapshot
from maskloop_learner.settings import Settings

LABELS = ("Liver", "Tumor / left", "tumor / Left")
"""Not fit for folders as they are, and two of them one where case does not count."""
FORMATS = ("pairs", "coco", "huggingface")


def add_image(pool: Pool, project: int, ls_id: int, *, name: str | None, size: tuple[int, int] = (16, 24)) -> int:
    """A task whose image is in the store; returns its id in the pool."""
    data = png(noise(ls_id, size))
    digest = pool.store.put("images", data)
    fields = {"prompt": f"prompt {ls_id}"} | ({"name": name} if name else {})
    with pool.write() as session:
        session.add(Image(digest=digest, width=size[1], height=size[0], format="PNG", size=len(data)))
        session.flush()
        url = f"/data/upload/7/0123abcd-up {ls_id}.png"
        task = Task(project_id=project, ls_id=ls_id, url=url, data=fields, state="ready", image_digest=digest)
        session.add(task)
        session.flush()
        return task.id


def annotate(pool: Pool, task: int, masks: dict[str, Mask], *, author: str = "ann@x.test", minute: int = 0) -> int:
    """A submitted annotation; returns its id in the pool."""
    with pool.write() as session:
        kept = {label: pool.store.put("masks", encode_mask(mask)) for label, mask in masks.items()}
        moment = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(minutes=minute)
        number = 1000 * task + minute
        row = Label(task_id=task, ls_annotation_id=number, masks=kept, author=author, ls_updated_at=moment)
        session.add(row)
        session.flush()
        return row.id


@pytest.fixture
def project(pool: Pool) -> int:
    """Five tasks: two names that collide, one of a folder, one from its address, and one that nobody labelled."""
    project = add_project(pool, labels=LABELS)
    names = ["a.png", "A.jpg", "day 2/é.dcm", None, "free.png"]
    tasks = [add_image(pool, project, 11 + number, name=name) for number, name in enumerate(names)]
    annotate(pool, tasks[0], {"Liver": blob(1)}, minute=1)
    annotate(pool, tasks[0], {"Liver": blob(2), LABELS[1]: blob(3)}, author="ben@x.test", minute=2)
    annotate(pool, tasks[1], {LABELS[1]: blob(4), LABELS[2]: blob(5)})
    annotate(pool, tasks[2], {})
    annotate(pool, tasks[3], {"Liver": blob(6)})
    return project


TRUTH: dict[int, dict[str, Mask]] = {
    11: {"Liver": blob(2), LABELS[1]: blob(3)},
    12: {LABELS[1]: blob(4), LABELS[2]: blob(5)},
    13: {},
    14: {"Liver": blob(6)},
}
"""Task -> the newest masks."""


@pytest.mark.parametrize("form", FORMATS)
def test_what_goes_out_comes_back_in(command: Command, project: int, tmp_path: Path, form: str) -> None:
    """Every format is recognised again, and gives the same images and the same masks to the pixel."""
    code, out, said = command("export", str(tmp_path / "out"), "--format", form, "--json")
    assert (code, json.loads(out)["labels"]) == (0, 4), said
    request = Request(tmp_path / "out")
    assert recognise(request) == form
    read, refused = read_all(source_of(request, interface(*LABELS)))
    assert refused == {}
    items = json.loads((tmp_path / "out/manifest.json").read_text())["items"]
    files = {item["sha256"]: item["task"] for item in items}
    back = {files[picture.key]: drawn(masks) for picture, masks in read.values()}
    assert back == {task: drawn(masks) for task, masks in TRUTH.items()}


def test_pairs_lie_as_documented(command: Command, project: int, tmp_path: Path) -> None:
    """Images as stored, a mask for each label, names that fit everywhere, and a manifest of all of it."""
    out = tmp_path / "out"
    assert command("export", str(out))[0] == 0
    assert sorted(path.name for path in (out / "images").iterdir()) == [
        "A_2.png",
        "a.png",
        "day 2%2Fé.png",
        "up 14.png",
    ]
    folders = sorted(path.name for path in (out / "masks").iterdir())
    assert len({name.casefold() for name in folders}) == 3
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["folders"].keys() == set(LABELS)
    assert manifest["prompts"]["Liver"] == "liver"
    (item,) = [item for item in manifest["items"] if item["task"] == 11]
    assert (item["author"], item["annotation"], item["version"], item["prompt"]) == (
        "ben@x.test",
        1000 + 2,
        1,
        "prompt 11",
    )
    for told in (item, *item["masks"].values()):
        assert hashlib.sha256((out / told["file"]).read_bytes()).hexdigest() == told["sha256"]
    mask = np.asarray(Pillow.open(out / item["masks"]["Liver"]["file"]))
    np.testing.assert_array_equal(mask, blob(2).astype(np.uint8) * 255)
    empty = np.asarray(Pillow.open(out / item["masks"][LABELS[2]]["file"]))
    assert empty.shape == mask.shape
    assert not empty.any()


def test_coco_is_read_by_pycocotools(command: Command, project: int, tmp_path: Path) -> None:
    """One annotation for each mask with a pixel; area and box are those of the pixels."""
    assert command("export", str(tmp_path / "out"), "--format", "coco")[0] == 0
    loaded = COCO(str(tmp_path / "out/instances.json"))
    assert [row["name"] for row in loaded.loadCats(loaded.getCatIds())] == list(LABELS)
    assert len(loaded.getImgIds()) == 4
    rows = loaded.loadAnns(loaded.getAnnIds())
    assert len(rows) == 5
    for row in rows:
        mask = loaded.annToMask(row)
        columns, lines = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        assert row["area"] == mask.sum() > 0
        assert row["bbox"] == [columns[0], lines[0], np.ptp(columns) + 1, np.ptp(lines) + 1]
        assert row["iscrowd"] == 0
        assert (tmp_path / "out/images" / loaded.imgs[row["image_id"]]["file_name"]).is_file()


def test_the_image_folder_has_card_and_checksums(command: Command, pool: Pool, project: int, tmp_path: Path) -> None:
    """sha256sum accepts every file, rows name files that are there, frozen images are in validation."""
    freeze_snapshot(pool, project, share=0.3)
    out = tmp_path / "out"
    assert command("export", str(out), "--format", "huggingface")[0] == 0
    done = subprocess.run(["sha256sum", "-c", "--strict", "checksums.sha256"], cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {line.split(": ")[0] for line in done.stdout.splitlines()} == files - {"checksums.sha256"}
    counts = {}
    for split in ("train", "validation"):
        rows = [json.loads(line) for line in (out / f"data/{split}/metadata.jsonl").read_text().splitlines()]
        counts[split] = len(rows)
        for row in rows:
            assert row["labels"] == list(LABELS)
            assert all((out / "data" / split / name).is_file() for name in [row["file_name"], *row["masks_file_names"]])
    assert counts == {"train": 3, "validation": 1}
    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert [feature["name"] for feature in front["dataset_info"]["features"]][:3] == ["image", "masks", "labels"]
    assert {row["split"] for row in front["configs"][0]["data_files"]} == {"train", "validation"}
    assert "| train | 3 |" in card


def test_annotators_in_folders_of_their_own(command: Command, project: int, tmp_path: Path) -> None:
    """Each folder is an export of its own, with that annotator's newest label of every task."""
    code, out, _ = command("export", str(tmp_path / "out"), "--all-annotators", "--json")
    assert (code, json.loads(out)["labels"]) == (0, 5)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"ann%40x.test", "ben%40x.test", "manifest.json"}
    items = json.loads((tmp_path / "out/ann%40x.test/manifest.json").read_text())["items"]
    assert sorted((item["task"], item["annotation"]) for item in items if item["task"] == 11) == [(11, 1001)]
    read, _ = read_all(source_of(Request(tmp_path / "out/ann%40x.test"), interface(*LABELS)))
    assert drawn(read["a.png"][1]) == {"Liver": blob(1).tolist()}


def test_nothing_is_replaced_but_an_export(command: Command, project: int, tmp_path: Path) -> None:
    """A folder with something in it is refused; --overwrite replaces an export and nothing else."""
    out = tmp_path / "out"
    out.mkdir()
    assert command("export", str(out))[0] == 0
    code, _, said = command("export", str(out))
    assert code == 1
    assert "--overwrite" in said
    assert command("export", str(out), "--overwrite", "--format", "coco")[0] == 0
    assert not (out / "masks").exists()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    code, _, said = command("export", str(precious), "--overwrite")
    assert code == 1
    assert "no export" in said
    assert [path.name for path in precious.iterdir()] == ["thesis.tex"]
    assert not list(tmp_path.glob(".*")), "nothing half-done is left"


def test_a_lost_mask_is_told_and_the_others_go_out(
    command: Command, pool: Pool, project: int, settings: Settings, tmp_path: Path
) -> None:
    """Exit code 1; the manifest names what is left out."""
    digest = hashlib.sha256(encode_mask(blob(6))).hexdigest()
    (settings.home / "store/masks" / digest[:2] / digest).unlink()
    code, out, _ = command("export", str(tmp_path / "out"), "--json")
    left = json.loads(out)
    assert (code, left["labels"], len(left["left_out"])) == (1, 3, 1)
    assert digest in left["left_out"][0]["reason"]
    assert json.loads((tmp_path / "out/manifest.json").read_text())["left_out"] == left["left_out"]


def test_a_project_without_labels_exports_nothing(command: Command, pool: Pool, tmp_path: Path) -> None:
    """One line, and no folder."""
    add_project(pool)
    code, _, said = command("export", str(tmp_path / "out"))
    assert code == 1
    assert "no label" in said
    assert not (tmp_path / "out").exists()
    assert command("export", str(tmp_path / "out"), "--format", "zip")[0] == 2


def test_memory_is_bounded(command: Command, pool: Pool, tmp_path: Path) -> None:
    """200 labels of images of a quarter of a megapixel: 50 MB of masks, of which few are held at once."""
    project = add_project(pool)
    size = (512, 512)
    data = png(np.zeros(size, np.uint8))
    digest = pool.store.put("images", data)
    mask = pool.store.put("masks", encode_mask(blob(1, size)))
    with pool.write() as session:
        session.add(Image(digest=digest, width=512, height=512, format="PNG", size=len(data)))
        session.flush()
        for number in range(200):
            task = Task(project_id=project, ls_id=number + 1, url="x", state="ready", image_digest=digest)
            session.add(task)
            session.flush()
            moment = datetime(2026, 1, 5, tzinfo=UTC)
            session.add(Label(task_id=task.id, ls_annotation_id=number, masks={"Tumor": mask}, ls_updated_at=moment))
    tracemalloc.start()
    code = command("export", str(tmp_path / "out"), "--format", "coco")[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert code == 0
    assert peak < 20e6
    shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize("form", ["pairs", "huggingface"])
def test_a_label_that_nobody_looked_for_is_not_exported_as_absent(
    command: Command, pool: Pool, tmp_path: Path, form: str
) -> None:
    """It was added to the label config after the image was labelled: an empty mask would be a false example."""
    project = add_project(pool, labels=("Liver", "Tumor"))
    row = annotate(pool, add_image(pool, project, 11, name="a.png"), {"Liver": blob(1)})
    with pool.write() as session:
        session.get_one(Label, row).known = ["Liver"]
    annotate(pool, add_image(pool, project, 12, name="b.png"), {"Liver": blob(2)})
    out = tmp_path / "out"
    assert command("export", str(out), "--format", form)[0] == 0
    assert [path.name for path in out.rglob("Tumor/*.png")] == ["b.png"]
    assert sorted(path.name for path in out.rglob("Liver/*.png")) == ["a.png", "b.png"]
    items = json.loads((out / "manifest.json").read_text())["items"]
    assert [item["known"] for item in items] == [["Liver"], None]


def test_a_folder_that_cannot_be_written_is_one_line(command: Command, project: int, tmp_path: Path) -> None:
    """A full disk or a file in the way is no traceback."""
    (tmp_path / "file").write_text("in the way")
    code, _, said = command("export", str(tmp_path / "file" / "out"))
    assert code == 1
    assert "Traceback" not in said
    assert str(tmp_path / "file") in said.replace("\n", "")


def test_a_label_too_long_for_a_folder_is_one_line(command: Command, pool: Pool, tmp_path: Path) -> None:
    project = add_project(pool, labels=("é" * 100,))
    annotate(pool, add_image(pool, project, 11, name="a.png"), {})
    code, _, said = command("export", str(tmp_path / "out"))
    assert (code, "Traceback" in said, "too long" in said) == (1, False, True), said
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []
