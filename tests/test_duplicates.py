"""Near-duplicates: one picture saved anew is found, different pictures of one kind are not joined."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageEnhance
from pool_fixture import add_label, add_project, add_task, png_bytes
from scipy.ndimage import gaussian_filter
from sqlalchemy import select

from maskloop_backend.demo.slices import make_demo_slices
from maskloop_learner.pool.duplicates import find_duplicates
from maskloop_learner.pool.looking import look_at_images
from maskloop_learner.pool.looks import BLANK, Look, look_at
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Image, Project, Snapshot, Task
from maskloop_learner.pool.snapshot import Manifest, freeze_snapshot, load_manifest

BUSI = Path(__file__).parents[2] / "shared" / "data" / "busi" / "img"
SAME_VIDEO = [
    {"4_malignant", "5_malignant"},
    {"7_malignant", "8_malignant", "9_malignant"},
    {"39_malignant", "42_malignant"},
    {"13_normal", "5_normal"},
    {"38_normal", "43_normal", "50_normal"},
    {"39_normal", "48_normal"},
    {"40_normal", "46_normal"},
    {"41_normal", "44_normal", "47_normal"},
    {"42_normal", "45_normal", "49_normal"},
]
"""Frames of BUSI's first images that show the same lesion or breast a moment later; every one was looked at."""


def scan(seed: int, *, size: int = 240) -> Pillow.Image:
    """A smooth random picture with some grain."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=(size, size)), size / 20)
    pixels = 128 + 45 * smooth / smooth.std() + rng.normal(0, 6, (size, size))
    return Pillow.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def jpeg(image: Pillow.Image, quality: int) -> Pillow.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Pillow.open(io.BytesIO(out.getvalue()))


def crop(image: Pillow.Image, share: float) -> Pillow.Image:
    """Without some of each side, more at the left and top."""
    width, height = image.size
    box = (width * share, height * share / 2, width * (1 - share / 2), height * (1 - share))
    return image.crop(tuple(round(edge) for edge in box))  # type: ignore[arg-type]


def gamma(image: Pillow.Image, power: float) -> Pillow.Image:
    return Pillow.fromarray((255 * (np.asarray(image) / 255) ** power).astype(np.uint8))


CHANGES: dict[str, Callable[[Pillow.Image], Pillow.Image]] = {
    "jpeg": lambda image: jpeg(image, 50),
    "half": lambda image: image.resize((image.width // 2, image.height // 2)),
    "square": lambda image: image.resize((224, 224)),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "gamma": lambda image: gamma(image, 0.8),
    "cropped": lambda image: crop(image, 0.01),
    "cropped and saved": lambda image: jpeg(crop(image, 0.01), 70),
    "colour": lambda image: image.convert("RGB"),
}


def joined(looks: list[Look], groups: list[int] | None = None) -> set[frozenset[int]]:
    return {frozenset(pair) for pair in find_duplicates(looks, groups or list(range(len(looks))))}


@pytest.mark.parametrize("change", CHANGES)
def test_a_picture_that_was_saved_anew_is_found(change: str) -> None:
    pictures = [scan(seed) for seed in range(8)]
    looks = [look_at(each) for picture in pictures for each in (picture, CHANGES[change](picture))]
    assert joined(looks) == {frozenset((2 * number, 2 * number + 1)) for number in range(8)}


def test_different_pictures_are_not_joined() -> None:
    assert joined([look_at(scan(seed)) for seed in range(60)]) == set()


def test_blank_pictures_resemble_nothing() -> None:
    """The empty slices at the ends of two patients' volumes."""
    empty = np.zeros((100, 100), np.uint8)
    empty[50, 50] = 255
    looks = [
        look_at(Pillow.fromarray(empty)),
        look_at(Pillow.new("L", (64, 64), 17)),
        look_at(Pillow.new("RGB", (9, 9))),
    ]
    assert looks == [BLANK] * 3
    assert joined(looks) == set()


def test_as_few_pairs_as_join_what_belongs_together() -> None:
    """A video of 3,000 frames is joined by 2,999 pairs; what is one group anyway needs none."""
    look = look_at(scan(1))
    assert len(find_duplicates([look] * 3000, range(3000))) == 2999
    assert joined([look] * 4, [1, 1, 2, 2]) == {frozenset((0, 2))}
    assert joined([look] * 4, [7, 7, 7, 7]) == set()
    assert joined([]) == joined([look]) == set()


def looks_of(paths: list[Path]) -> list[Look]:
    return [look_at(Pillow.open(path)) for path in paths]


@pytest.mark.skipif(not BUSI.is_dir(), reason="the BUSI images are not beside the checkout")
def test_breast_ultrasounds_are_joined_where_they_are_frames_of_one_video() -> None:
    """149 images, each with a group of its own; nothing else is joined, and saved anew all are found."""
    paths = sorted(BUSI.glob("*.png"))
    looks = looks_of(paths)
    clusters: list[set[str]] = []
    for pair in find_duplicates(looks, range(len(looks))):
        names = {paths[number].stem for number in pair}
        for cluster in [cluster for cluster in clusters if cluster & names]:
            clusters.remove(cluster)
            names |= cluster
        clusters.append(names)
    assert sorted(map(sorted, clusters)) == sorted(map(sorted, SAME_VIDEO))
    some = paths[::5]
    for change in ("jpeg", "half", "gamma", "cropped"):
        for path, look in zip(some, looks[::5], strict=True):
            assert joined([look, look_at(CHANGES[change](Pillow.open(path).convert("L")))]), (change, path.name)


@pytest.mark.slow
def test_the_demos_slices_are_different_pictures(tmp_path: Path) -> None:
    """Neighbours of 3 mm look alike, and the demo has no patients to group by: none may be joined."""
    pytest.importorskip("nilearn")
    paths = sorted((make_demo_slices(tmp_path / "demo").root / "images").glob("*.png"))
    assert len(paths) == 60
    looks = looks_of(paths)
    assert joined(looks) == set()
    for path, look in zip(paths[::4], looks[::4], strict=True):
        assert joined([look, look_at(CHANGES["cropped and saved"](Pillow.open(path)))])


def encode(image: Pillow.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def twins(pool: Pool) -> int:
    """A project with 8 pictures, each twice: as it is and a little brighter; all labelled."""
    project = add_project(pool)
    for number in range(8):
        for ls_id, picture in ((number, scan(number)), (100 + number, gamma(scan(number), 0.9))):
            add_label(pool, add_task(pool, project, ls_id + 1, data=encode(picture)))
    return project


def freeze(pool: Pool, project: int, **how: object) -> Manifest:
    snapshot = freeze_snapshot(pool, project, share=0.3, **how)  # type: ignore[arg-type]
    with pool.read() as session:
        return load_manifest(pool, session.get_one(Snapshot, snapshot))


def test_near_duplicates_are_kept_on_one_side_and_reported(pool: Pool, twins: int) -> None:
    manifest = freeze(pool, twins)
    split = {item["ls_task"]: item["split"] for item in manifest["items"]}
    group = {item["ls_task"]: item["group"] for item in manifest["items"]}
    assert all(split[number] == split[100 + number] for number in range(1, 9))
    assert all(group[number] == group[100 + number] for number in range(1, 9))
    assert set(split.values()) == {"train", "validation"}
    assert {frozenset(pair["tasks"]) for pair in manifest["duplicates"]} == {
        frozenset((number, 100 + number)) for number in range(1, 9)
    }
    [said] = manifest["warnings"]
    assert "8 pairs of pictures of different groups are one or nearly, and kept on one side" in said
    assert "and 3 more" in said


def test_near_duplicates_may_only_be_reported(pool: Pool, twins: int) -> None:
    manifest = freeze(pool, twins, near_duplicates="report")
    apart = [pair for pair in manifest["duplicates"] if len(set(pair["sides"])) == 2]
    assert len(manifest["duplicates"]) == 8
    assert apart
    assert any(f"{len(apart)} pairs of pictures on both sides" in said for said in manifest["warnings"])


def test_one_patients_pictures_are_no_duplicates(pool: Pool, twins: int) -> None:
    """Nor need they be looked at: they are on one side anyway."""
    with pool.write() as session:
        session.get_one(Project, twins).grouping = {"pattern": r"(\d)\.png$"}
    assert freeze(pool, twins)["duplicates"] == []


def test_pictures_that_validate_take_their_copies_along(pool: Pool) -> None:
    """A copy that arrives later follows; one that was learnt from before is told."""
    project = add_project(pool)
    for number in range(6):
        add_label(pool, add_task(pool, project, number + 1, data=encode(scan(number))))
    first = freeze(pool, project)
    frozen = {item["ls_task"] for item in first["items"] if item["split"] == "validation"}
    for ls_id in frozen:
        add_label(pool, add_task(pool, project, 100 + ls_id, data=encode(jpeg(scan(ls_id - 1), 80))))
    second = freeze(pool, project)
    assert {item["ls_task"] for item in second["items"] if item["split"] == "validation"} == frozen | {
        100 + ls_id for ls_id in frozen
    }
    assert not any("from now on" in said for said in second["warnings"])


def test_looks_are_worked_out_once(pool: Pool, twins: int) -> None:
    """They are kept with the image; what cannot be read resembles nothing, and is tried again."""
    with pool.read() as session:
        digests = list(session.scalars(select(Image.digest)))
        assert set(session.scalars(select(Image.phash))) == {None}
    found = look_at_images(pool, digests, write=False)
    with pool.read() as session:
        assert set(session.scalars(select(Image.phash))) == {None}
    assert look_at_images(pool, digests, write=True) == found
    with pool.read() as session:
        assert {row.digest: row.phash for row in session.scalars(select(Image))} == {
            digest: look.phash for digest, look in found.items()
        }
    with pool.write() as session:
        session.add(Image(digest="0" * 64, width=1, height=1, format="PNG", size=1))
    assert look_at_images(pool, [*digests, "0" * 64], write=True) == found


def test_an_image_in_two_patients_folders_joins_them(pool: Pool) -> None:
    """Unless it is blank."""
    noise: NDArray[np.uint8] = np.zeros((16, 24), np.uint8)
    for shared, groups in ((png_bytes(99), 1), (encode(Pillow.fromarray(noise)), 2)):
        project = add_project(pool, ls_id=groups)
        with pool.write() as session:
            session.get_one(Project, project).grouping = {"field": "patient"}
        for ls_id, patient, data in (
            (1, "A", png_bytes(1)),
            (2, "B", png_bytes(2)),
            (3, "A", shared),
            (4, "B", shared),
        ):
            task = add_task(pool, project, ls_id, data=data)
            with pool.write() as session:
                session.get_one(Task, task).data = {"patient": patient}
            add_label(pool, task, minute=ls_id)
        manifest = freeze(pool, project)
        assert len(manifest["items"]) == 3
        assert len({item["group"] for item in manifest["items"]}) == groups
