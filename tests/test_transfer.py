"""Import and export against a real Label Studio: in by every way, through the pool, out in every format."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dataset_files import write_dataset
from labelstudio_fixture import LabelStudioServer
from PIL import Image as Pillow
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from transfer_fixture import blob, drawn, interface, noise, read_all, save, source_of

from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.labelstudio.tokens import save_token
from maskloop_backend.sync.pull import Puller
from maskloop_backend.transfer.choosing import Request
from maskloop_backend.transfer.coco_masks import encode_segmentation
from maskloop_backend.transfer.drawing import read_interface
from maskloop_backend.transfer.labelled import Labelled
from maskloop_backend.transfer.parcels import VERSION
from maskloop_learner.pool.masks import Mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project, Task
from maskloop_learner.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LABELS = ("Liver", "Tumor")
CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="mask" toName="image">'
    + "".join(f'<Label value="{label}"/>' for label in LABELS)
    + "</BrushLabels></View>"
)
TALL = (40, 56)
MANY = 400


class Bench:
    """A project of a real Label Studio, connected to a pool of its own."""

    def __init__(self, server: LabelStudioServer, client: LabelStudio, home: Path) -> None:
        self.client, self.settings = client, Settings(home=home)
        self.pool = Pool.open(self.settings)
        self.ls_id = client.create_project("transfer", CONFIG).id
        save_token(home, client.url, server.pat)
        kept = read_interface(CONFIG).as_json()
        with self.pool.write() as session:
            row = Project(ls_url=client.url, ls_id=self.ls_id, title="transfer", label_config=CONFIG, control=kept)
            row.prompts = {label: label.lower() for label in LABELS}
            session.add(row)
            session.flush()
            self.project = row.id
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("MASKLOOP_")}
        self.env["MASKLOOP_HOME"] = str(home)

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """`maskloop ...` as a process of its own."""
        command = [sys.executable, "-m", "maskloop_backend", *words]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self.env, start_new_session=True, **pipes)

    def run(self, *words: str, code: int = 0) -> dict[str, Any]:
        """`maskloop ... --json`; its document."""
        process = self.start(*words, "--json")
        out, said = process.communicate(timeout=300)
        assert process.returncode == code, out + said
        assert out, said
        return dict(json.loads(out))

    def sync(self) -> None:
        """What `maskloop sync` does with news: tasks, images and labels into the pool."""
        headers = lambda url: self.client.fetch_headers()  # noqa: E731
        puller = Puller(
            pool=self.pool, client=self.client, settings=self.settings, headers_for=headers, beat=lambda: None
        )
        puller.pull(self.project, full=True)
        while puller.take_images(self.project):
            pass

    def tasks(self) -> list[dict[str, Any]]:
        """Data of all tasks, with the number of their annotations."""
        rows = self.client.changed_tasks(self.ls_id, None).tasks
        return [{**row.data, "annotations": len(row.annotations), "id": row.id} for row in rows]

    def labels(self) -> dict[str, dict[str, list[list[bool]]] | None]:
        """Name of the image -> the masks that the pool has of it."""
        labelled = Labelled(self.pool, self.row)
        return {row.name: drawn(dict(labelled.masks(row))) for row in labelled.rows(labelled.find())}

    @property
    def row(self) -> Project:
        """The project in the pool."""
        with self.pool.read() as session:
            return session.get_one(Project, self.project)


@pytest.fixture
def bench(label_studio: LabelStudioServer, tmp_path: Path) -> Iterator[Bench]:
    """A new project for each test."""
    with LabelStudio(label_studio.url, label_studio.pat) as client:
        made = Bench(label_studio, client, tmp_path / "home")
        yield made
        client.delete_project(made.ls_id)


def write_dicom(path: Path, pixels: "np.ndarray[Any, np.dtype[np.uint16]]") -> None:
    """A DICOM file of one person."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = pydicom.Dataset()
    made.file_meta = meta
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.PatientName, made.PatientID, made.Modality = "Doe^Jane", "4711", "CT"
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 0
    made.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)


def write_everything(folder: Path) -> dict[str, dict[str, Mask]]:
    """Pairs with a DICOM, MedCLIPSeg's layout and COCO below a folder; returns name -> masks."""
    truth: dict[str, dict[str, Mask]] = {}
    for number, name in enumerate(("plain.png", "photo.jpg", "ünï cödé.png")):
        save(folder / "pairs/images" / name, noise(number, TALL))
        truth[name] = {"Liver": blob(number, TALL), "Tumor": blob(10 + number, TALL)}
        for label, mask in truth[name].items():
            save(folder / "pairs/masks" / label / f"{Path(name).stem}.png", mask)
    write_dicom(folder / "pairs/images/Doe^Jane.dcm", noise(7, TALL).astype(np.uint16) * 16)
    truth["dicom"] = {"Liver": blob(7, TALL)}
    save(folder / "pairs/masks/Liver/Doe^Jane.png", blob(7, TALL))
    (folder / "pairs/images/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    root = write_dataset(folder / "set", first_seed=50)
    for split, count in (("Train", 8), ("Val", 2), ("Test", 3)):
        for number in range(count):
            name = f"{split.lower()} {number}.png"
            mask = np.asarray(Pillow.open(root / f"{split}_Folder/label" / name)) > 127
            truth[f"{split}_Folder/img/{name}"] = {"Tumor": mask} if mask.any() else {}
    save(folder / "coco/images/c.png", noise(30, TALL))
    truth["c.png"] = {"Tumor": blob(31, TALL)}
    segmentation, area, box = encode_segmentation(blob(31, TALL))
    row = {"id": 1, "image_id": 1, "category_id": 3, "segmentation": segmentation, "area": area, "bbox": box}
    data = {
        "images": [{"id": 1, "file_name": "c.png", "width": TALL[1], "height": TALL[0]}],
        "categories": [{"id": 3, "name": "Tumor"}],
        "annotations": [row],
    }
    (folder / "coco/instances.json").write_text(json.dumps(data))
    return truth


def test_in_through_the_pool_and_out(bench: Bench, tmp_path: Path) -> None:
    """All ways in, twice; the pool gets the very masks, and all formats give them back to the pixel."""
    truth = write_everything(tmp_path / "in")
    pairs = ("import", str(tmp_path / "in/pairs"))
    trial = bench.run(*pairs, "--dry-run", code=1)
    assert bench.tasks() == []
    first = bench.run(*pairs, code=1)
    assert {key: first[key] for key in ("imported", "labelled", "refused")} == {
        key: trial[key] for key in ("imported", "labelled", "refused")
    }
    assert (first["imported"], first["labelled"]) == (4, 4)
    assert [row["name"] for row in first["refused"]] == ["broken.png"]
    again = bench.run(*pairs, code=1)
    assert (again["imported"], again["added"], len(again["skipped"])) == (0, 0, 4)
    layout = ("import", str(tmp_path / "in/set"), "--label", "Tumor")
    assert bench.run(*layout)["labelled"] == 13
    assert bench.run("import", str(tmp_path / "in/coco"))["labelled"] == 1
    assert len(bench.run(*layout)["skipped"]) == 13

    tasks = bench.tasks()
    assert len(tasks) == len({task["maskloop_import"] for task in tasks}) == len(truth) == 18
    assert {task["annotations"] for task in tasks} == {1}
    (dicom,) = [task for task in tasks if task["origin"].get("format") == "DICOM"]
    assert "doe" not in json.dumps(dicom).lower()
    assert [task["prompt"] for task in tasks if task["name"] == "Val_Folder/img/val 0.png"] == [
        "One round tumor at the left."
    ]
    bench.sync()
    with bench.pool.read() as session:
        assert {task.state for task in session.query(Task)} == {"ready"}
    wanted = {dicom["name"] if name == "dicom" else name: drawn(masks) for name, masks in truth.items()}
    assert bench.labels() == wanted
    for form in ("pairs", "coco", "huggingface"):
        out = tmp_path / "out" / form
        assert bench.run("export", str(out), "--format", form)["labels"] == 18
        read, refused = read_all(source_of(Request(out), interface(*LABELS)))
        assert refused == {}
        items = json.loads((out / "manifest.json").read_text())["items"]
        names = {item["sha256"]: item["name"] for item in items}
        assert {names[picture.key]: drawn(masks) for picture, masks in read.values()} == wanted
        # What the pool gave back is what Label Studio has: nothing is new, and the labels are the same.
        back = bench.run("import", str(out))
        new = 1  # the DICOM's PNG is another file than the DICOM, unless the pool knows it
        assert back["imported"] + back["added"] <= new - 1, back
    assert len(bench.tasks()) == 18


def test_labels_for_tasks_that_are_there(bench: Bench, tmp_path: Path) -> None:
    """Masks that come later are added once; tasks that a person made are found through the pool."""
    for name in ("early.png", "manual.png"):
        save(tmp_path / "images" / name, noise(len(name), TALL))
    bench.run("import", str(tmp_path / "images" / "early.png"))
    data = (tmp_path / "images/manual.png").read_bytes()
    address = bench.client.upload_files(bench.ls_id, [("by hand.png", data)])[0]
    bench.client.import_tasks(bench.ls_id, [{"data": {"image": address}}])
    bench.sync()
    save(tmp_path / "masks/Liver/early.png", blob(1, TALL))
    save(tmp_path / "masks/Tumor/manual.png", blob(2, TALL))
    for added in (2, 0):
        done = bench.run("import", str(tmp_path / "images"), "--masks", str(tmp_path / "masks"))
        assert (done["imported"], done["added"], len(done["skipped"])) == (0, added, 2 - added)
    assert [task["annotations"] for task in bench.tasks()] == [1, 1]
    save(tmp_path / "masks/Liver/early.png", blob(3, TALL))
    other = bench.run("import", str(tmp_path / "images"), "--masks", str(tmp_path / "masks"), code=1)
    assert "other labels" in other["refused"][0]["reason"]


def test_masks_as_predictions(bench: Bench, tmp_path: Path) -> None:
    """They are predictions of the version `imported`, no labels, and none twice."""
    save(tmp_path / "images/a.png", noise(1, TALL))
    save(tmp_path / "masks/Liver/a.png", blob(1, TALL))
    for _ in range(2):
        bench.run("import", str(tmp_path), "--as", "predictions")
    (task,) = bench.tasks()
    assert task["annotations"] == 0
    (row,) = bench.client.predictions_index(bench.ls_id, VERSION)
    assert (row.task, row.score) == (task["id"], 1.0)


def test_addresses_and_fields(bench: Bench, tmp_path: Path) -> None:
    """A list of addresses becomes tasks once; a CSV of fields goes along."""
    (tmp_path / "list.csv").write_text("image,site\nhttps://x.test/1.png,A\n/data/local-files/?d=a.png,B\nno,C\n")
    for imported in (2, 0):
        assert bench.run("import", str(tmp_path / "list.csv"), code=1)["imported"] == imported
    assert sorted((task["image"], task["site"]) for task in bench.tasks()) == [
        ("/data/local-files/?d=a.png", "B"),
        ("https://x.test/1.png", "A"),
    ]
    save(tmp_path / "images/a.png", noise(1))
    (tmp_path / "fields.csv").write_text("file,group\na.png,7\n")
    bench.run("import", str(tmp_path / "images"), "--fields", str(tmp_path / "fields.csv"))
    assert [task["group"] for task in bench.tasks() if task.get("name") == "a.png"] == ["7"]


@pytest.mark.parametrize(("request_number", "wait"), [(1, 0.0), (3, 0.15)])
def test_a_killed_import_is_completed_without_doubles(
    bench: Bench, tmp_path: Path, request_number: int, wait: float
) -> None:
    """kill -9 before and while tasks are sent; the next call completes the rest, and nothing is there twice."""
    for number in range(MANY):
        save(tmp_path / f"images/{number:03d}.png", noise(number, TALL))
        save(tmp_path / f"masks/Liver/{number:03d}.png", blob(number, TALL))
    process = bench.start("import", str(tmp_path))
    journal, seen, there = bench.settings.home / "imports" / f"{bench.project}.json", 0, False
    end = time.monotonic() + 120
    while seen < request_number and time.monotonic() < end:
        there, before = journal.exists(), there
        seen += there and not before
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    time.sleep(wait)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    arrived = bench.client.project(bench.ls_id).tasks
    assert seen == request_number
    assert arrived < MANY
    done = bench.run("import", str(tmp_path))
    tasks = bench.tasks()
    print(f"\nkilled at {arrived} of {MANY} tasks; the second call imported {done['imported']}")
    assert Counter(task["maskloop_import"] for task in tasks).most_common(1)[0][1] == 1
    assert len(tasks) == MANY
    assert {task["annotations"] for task in tasks} == {1}
    assert bench.run("import", str(tmp_path))["imported"] == 0
