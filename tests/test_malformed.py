"""A thousand malformed inputs through the doors that they come in by: a reason for each, and no neighbour dropped."""

import http.server
import io
import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convert_files import make_dicom
from PIL import Image as Pillow
from pool_fixture import TUMOR, add_project, add_task
from sqlalchemy import select

from maskloop_backend.labelstudio.config import ConfigError, read_interface
from maskloop_backend.labelstudio.records import Annotation
from maskloop_backend.labelstudio.template import write_config
from maskloop_backend.masks.regions import to_regions
from maskloop_backend.masks.rle import RleError, decode_rle, encode_rle
from maskloop_backend.sync.annotations import take_annotation
from maskloop_backend.sync.pull import Puller
from maskloop_learner.convert.convert import convert_file
from maskloop_learner.convert.options import ConvertError
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Image, Label, Project, Task
from maskloop_learner.settings import Settings

EACH = 200
"""Malformed inputs of each of the five kinds."""
NOW = datetime(2026, 1, 5, tzinfo=UTC)


def damage(data: bytes, dice: random.Random) -> bytes:
    """A file that was cut short, overwritten, doubled, or is something else."""
    way = dice.randrange(5)
    if way == 0:
        return data[: dice.randrange(len(data))]
    if way == 1:
        noise = bytearray(data)
        for _ in range(dice.choice([1, 4, 60])):
            noise[dice.randrange(min(len(noise), dice.choice([40, 400, len(noise)])))] = dice.randrange(256)
        return bytes(noise)
    if way == 2:
        at, length = dice.randrange(len(data)), dice.choice([1, 8, 100])
        return data[:at] + data[at + length :]
    if way == 3:
        return dice.choice([b"", b"<html>", b"GIF89a", b"%PDF-1.7", b"\0" * 300, b"II*\0" + data[4:], data[::-1]])
    return dice.randbytes(dice.randrange(1, 500))


def images() -> list[bytes]:
    """One good file of each format that is served."""
    rng = np.random.default_rng(4)
    made = []
    for form, mode in (("PNG", "RGB"), ("JPEG", "RGB"), ("WEBP", "RGB"), ("BMP", "L"), ("PNG", "P")):
        out = io.BytesIO()
        picture = Pillow.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)).convert(mode)
        picture.save(out, form)
        made.append(out.getvalue())
    return made


@pytest.fixture
def files() -> Iterator[tuple[dict[str, bytes], str]]:
    """An image server: name -> bytes, and its address."""
    served: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(served[self.path.rsplit("/", 1)[-1]])

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield served, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_images(pool: Pool, settings: Settings, files: tuple[dict[str, bytes], str]) -> None:
    """Fetched over HTTP as sync does: every task that fails says why, every good one between them is taken in."""
    served, address = files
    dice = random.Random(1)
    project = add_project(pool, ls_id=1)
    good = images()
    with pool.write() as session:
        session.get_one(Project, project).ls_url = address
        for number in range(1, 3 * EACH):
            name = f"{number}.png"
            served[name] = dice.choice(good) if number % 5 == 0 else damage(dice.choice(good), dice)
            session.add(Task(project_id=project, ls_id=number, part="image", url=f"/data/{name}", state="new"))
            session.flush()
        for task in session.scalars(select(Task)):
            task.data = {"image": task.url}
    nobody: Any = None
    puller = Puller(pool=pool, client=nobody, settings=settings, headers_for=lambda url: {}, beat=lambda: None)
    while puller.take_images(project):
        pass
    with pool.read() as session:
        tasks = session.scalars(select(Task).order_by(Task.ls_id)).all()
    failed = [task for task in tasks if task.state == "failed"]
    assert len(failed) >= EACH
    assert all(task.state == "ready" for task in tasks if task.ls_id % 5 == 0)
    assert {task.state for task in tasks} == {"ready", "failed"}
    for task in failed:
        assert task.error is not None
        assert f"{task.ls_id}.png" in task.error, "the reason names the file"
        assert len(task.error) < 500


def test_results(pool: Pool) -> None:
    """Annotations of nonsense: each is kept with its reason, and the good one beside it is learnt from."""
    dice = random.Random(2)
    project = add_project(pool)
    task_id = add_task(pool, project, 5)
    with pool.read() as session:
        row, task = session.get_one(Project, project), session.get_one(Task, task_id)
        image = session.get_one(Image, task.image_digest)
    mask = np.zeros((image.height, image.width), bool)
    mask[2:9, 3:12] = True
    region = to_regions({"Tumor": mask}, controls=[TUMOR], region_prefix="r")[0]
    number, reasons = 0, 0
    while reasons < EACH:
        number += 1
        bad = spoil(region, dice)
        results = {2 * number: [bad], 2 * number + 1: [region]}
        for annotation, result in results.items():
            body = Annotation(
                id=annotation,
                task=5,
                result=result,
                author=None,
                cancelled=False,
                ground_truth=False,
                lead_time=None,
                parent_prediction=None,
                created_at=NOW,
                updated_at=NOW,
            )
            assert take_annotation(pool, row, task, image, body, authors={})
        with pool.read() as session:
            rows = {label.ls_annotation_id: label for label in session.scalars(select(Label))}
        assert rows[2 * number + 1].error is None
        assert set(rows[2 * number + 1].masks) == {"Tumor"}
        error = rows[2 * number].error
        if error is not None:
            reasons += 1
            assert f"annotation {2 * number} of task 5: " in error
        with pool.write() as session:
            for label in session.scalars(select(Label)):
                session.delete(label)
        assert number < 4 * EACH, "most of what is spoilt must be refused"


def spoil(region: dict[str, Any], dice: random.Random) -> Any:
    """A region with something wrong in it."""
    junk: list[Any] = [None, -1, 1e300, "x", [], {}, [None], True, float("nan"), 10**30, "é" * 50, [[1, 2]], {"rle": 1}]
    value = dict(region["value"])
    way = dice.randrange(4)
    if way == 0:
        return dice.choice([each for each in junk if not isinstance(each, dict)])
    if way == 1:
        return {**region, dice.choice(["original_width", "original_height"]): dice.choice(junk)}
    if way == 2:
        return {**region, "value": {**value, dice.choice(["rle", "brushlabels", "format"]): dice.choice(junk)}}
    rle = list(value["rle"])
    for _ in range(3):
        rle[dice.randrange(len(rle))] = dice.choice([0, 255, 256, -1, 3.5, None, "7"])
    return {**region, "value": {**value, "rle": rle[: dice.choice([None, len(rle) // 2, 3])]}}


def test_rle() -> None:
    """Damaged run lengths: refused with a reason, or a mask of the asked size, and never more memory than that."""
    dice = random.Random(3)
    mask = np.random.default_rng(3).random((40, 30)) > 0.5
    whole = encode_rle(mask)
    reasons: list[str] = []
    for _ in range(6 * EACH):
        rle: list[Any] = list(whole)
        for _ in range(dice.choice([1, 5])):
            rle[dice.randrange(len(rle))] = dice.choice([0, 1, 127, 255, 256, -5, 2.5, None, "a", True])
        try:
            found = decode_rle(rle[: dice.randrange(len(rle)) if dice.random() < 0.5 else None], width=30, height=40)
        except RleError as error:
            reasons.append(str(error))
        else:
            assert found.shape == (40, 30)
    assert len(reasons) >= EACH
    assert all(reasons)
    assert (decode_rle(whole, width=30, height=40) == mask).all()


def test_configs() -> None:
    """Damaged label configs are refused with a reason, or what can be served of them is."""
    dice = random.Random(4)
    whole = [write_config(["Tumor", "Cyst"], mode=mode, prompt=True) for mode in ("brush", "bitmask", "polygon")]
    reasons: list[str] = []
    for _ in range(6 * EACH):
        text = list(dice.choice(whole))
        for _ in range(dice.choice([1, 3, 30])):
            at = dice.randrange(len(text))
            text[at : at + dice.choice([0, 1, 20])] = dice.choice(["", "<", ">", '"', "$", "&", "\0", "é", "/>"])
        try:
            interface = read_interface("".join(text))
        except ConfigError as error:
            reasons.append(str(error))
        else:
            assert interface.controls
    assert len(reasons) >= EACH
    assert min(len(reason) for reason in reasons) > 20


def test_dicom(tmp_path: Path) -> None:
    """Damaged DICOM files: refused with a reason that names the file, or pictures; good ones beside them are read."""
    dice = random.Random(5)
    pixels = np.random.default_rng(5).integers(0, 4096, (20, 30), dtype=np.uint16)
    make_dicom(pixels, WindowCenter=2000, WindowWidth=3000).save_as(tmp_path / "good.dcm", enforce_file_format=True)
    good = (tmp_path / "good.dcm").read_bytes()
    reasons: list[str] = []
    named = 0
    for number in range(6 * EACH):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(damage(good, dice))
        try:
            pictures = list(convert_file(path))
        except ConvertError as error:
            reasons.append(str(error))
            named += f"{number}.dcm" in reasons[-1]
        else:
            assert all(picture.data for picture in pictures)
        path.unlink()
        if len(reasons) >= EACH:
            break
    assert len(reasons) == named >= EACH
    assert len(list(convert_file(tmp_path / "good.dcm"))) == 1
