"""The demo slices: enough, upright, with their truth, repeatable, and test apart from training."""

import hashlib
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from maskloop_backend.demo.scanner import draw_scans, scan_slice
from maskloop_backend.demo.slices import ORIENTATIONS, DemoError, DemoSet, make_demo_slices
from maskloop_learner.pool.images import open_image, probe_image
from maskloop_learner.pool.masks import Mask, decode_mask

pytest.importorskip("nilearn", reason="the demo's volumes come with nilearn, which is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    return make_demo_slices(tmp_path_factory.mktemp("demo") / "slices")


def grey(made: DemoSet, name: str) -> NDArray[np.uint8]:
    return open_image(made.image(name).read_bytes())[..., 0]


def truth(made: DemoSet, name: str) -> dict[str, Mask]:
    return {label: decode_mask(made.truth(label, name).read_bytes()) for label in made.prompts}


def checksum(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def test_splits_names_and_files(made: DemoSet) -> None:
    assert {split: len(names) for split, names in made.splits.items()} == {"seed": 8, "test": 20, "pool": 32}
    names = list(itertools.chain(*made.splits.values()))
    assert sorted(names) == sorted(made.slices)
    assert all(re.fullmatch(r"(axial-z|coronal-y|sagittal-x)\d{3}\.png", name) for name in names)
    assert sorted(path.name for path in (made.root / "images").iterdir()) == sorted(names)
    for label in ("White matter", "Grey matter"):
        assert sorted(path.name for path in (made.root / "truth" / label).iterdir()) == sorted(names)
    for split in ("test", "pool"):
        assert {made.slices[name]["orientation"] for name in made.splits[split]} == set(ORIENTATIONS)
    assert {made.slices[name]["orientation"] for name in made.splits["seed"]} == {"axial"}
    manifest = json.loads((made.root / "manifest.json").read_text())
    assert (manifest["splits"], manifest["prompts"]) == (made.splits, made.prompts)
    assert set(made.prompts) == {"White matter", "Grey matter"}


def test_test_slices_are_apart_from_all_others(made: DemoSet) -> None:
    test = set(made.splits["test"])
    for name, other in itertools.product(test, set(made.slices) - test):
        here, there = made.slices[name], made.slices[other]
        if here["orientation"] == there["orientation"]:
            assert abs(here["index"] - there["index"]) >= 6, (name, other)
            assert here["slab"] != there["slab"]
            reach = (here["variation"]["thickness_mm"] + there["variation"]["thickness_mm"]) // 2
            assert abs(here["index"] - there["index"]) > reach, "thick slices must not share voxels"
    # the template is symmetric: a sagittal slice of the right half would be a copy of one of the left
    assert all(place["index"] < 98 for place in made.slices.values() if place["orientation"] == "sagittal")


def test_every_slice_shows_enough_of_both_tissues(made: DemoSet) -> None:
    for name in made.slices:
        info = probe_image(made.image(name).read_bytes(), max_megapixels=1, name=name)
        masks = truth(made, name)
        assert 180 <= min(info.width, info.height) <= max(info.width, info.height) <= 240
        assert all(mask.shape == (info.height, info.width) for mask in masks.values())
        assert masks["White matter"].sum() > 900
        assert masks["Grey matter"].sum() > 3000
        assert not (masks["White matter"] & masks["Grey matter"]).any()


def test_pictures_fit_their_truth(made: DemoSet) -> None:
    """White matter is brighter than grey, grey than the background, in every slice; little is saturated."""
    for name in made.slices:
        pixels, masks = grey(made, name), truth(made, name)
        white, grey_matter = (pixels[masks[label]].mean() for label in ("White matter", "Grey matter"))
        outside = pixels[~masks["White matter"] & ~masks["Grey matter"]].mean()
        assert white > 1.1 * grey_matter > 1.1 * 2 * outside, name
        assert (pixels == 255).mean() < 0.01, name


def test_slices_are_upright(made: DemoSet) -> None:
    """Frontal lobes are narrower than the back of the head; the cerebellum and stem are below, at the back."""
    for name, place in made.slices.items():
        rows, columns = np.nonzero(np.logical_or(*truth(made, name).values()))
        middle = (columns.min() + columns.max()) / 2
        if place["orientation"] != "sagittal":
            assert abs(columns.mean() - middle) < 3, "left and right alike"
        elif place["index"] > 60:
            lowest = columns[rows > rows.max() - 10].mean()
            assert lowest > middle, "forehead on the left, cerebellum low on the right"
        if place["orientation"] == "axial" and 60 <= place["index"] <= 120:
            quarter = (rows.max() - rows.min()) // 4
            front = np.ptp(columns[rows < rows.min() + quarter])
            assert front < np.ptp(columns[rows > rows.max() - 2 * quarter]), "forehead up"
        if place["orientation"] == "coronal" and 90 <= place["index"] <= 110:
            assert np.ptp(columns[rows > rows.max() - 8]) < 60, "stem down"


def test_some_slices_are_clearly_harder(made: DemoSet) -> None:
    """Contrast between the tissues, relative to their spread, varies widely; the labelled slices are the clear ones."""
    hardest = {
        split: max(made.slices[name]["variation"]["difficulty"] for name in names)
        for split, names in made.splits.items()
    }
    assert hardest["seed"] < 0.3 < 0.9 < min(hardest["test"], hardest["pool"])
    for names in (made.splits["test"], made.splits["pool"]):
        clarity = []
        for name in names:
            pixels, masks = grey(made, name).astype(float), truth(made, name)
            white, other = pixels[masks["White matter"]], pixels[masks["Grey matter"]]
            clarity.append((white.mean() - other.mean()) / np.sqrt((white.var() + other.var()) / 2))
        assert max(clarity) > 1.8 * min(clarity)
        difficulties = [made.slices[name]["variation"]["difficulty"] for name in names]
        assert np.corrcoef(clarity, difficulties)[0, 1] < -0.3


def test_prompts_name_no_place(made: DemoSet) -> None:
    words = set(" ".join(made.prompts.values()).lower().split())
    assert not words & {"left", "right", "upper", "lower", "centre", "center", "top", "bottom", "axial", "frontal"}


@pytest.mark.slow
def test_same_seed_same_bytes_and_a_complete_folder_is_left_alone(made: DemoSet, tmp_path: Path) -> None:
    again = make_demo_slices(tmp_path / "again")
    assert checksum(again.root) == checksum(made.root)
    written = made.image("axial-z093.png").stat().st_mtime_ns
    assert make_demo_slices(made.root) == made
    assert made.image("axial-z093.png").stat().st_mtime_ns == written
    before = checksum(again.root)
    again.truth("Grey matter", "axial-z093.png").unlink()
    (again.root / "manifest.json.part").write_text("{")
    make_demo_slices(again.root)
    assert checksum(again.root) == before


@pytest.mark.slow
def test_another_seed_is_other_slices_and_never_overwrites(made: DemoSet, tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="seed 0, not of recipe 2, seed 1; delete that folder"):
        make_demo_slices(made.root, seed=1)
    other = make_demo_slices(tmp_path, seed=1)
    assert other.splits["test"] == made.splits["test"]
    name = other.splits["test"][0]
    assert not np.array_equal(grey(other, name), grey(made, name))
    assert all(np.array_equal(truth(other, name)[label], truth(made, name)[label]) for label in made.prompts)


def test_a_scan_follows_its_values() -> None:
    plane = np.full((60, 50), 0.87, dtype=np.float32)
    scans = draw_scans(40, np.random.default_rng(0))
    assert sorted(scan.difficulty for scan in scans) == [round((n + 0.5) / 40, 3) for n in range(40)]
    spread = [float(scan_slice(plane, scan).std()) for scan in scans]
    assert np.corrcoef(spread, [scan.noise + scan.shading for scan in scans])[0, 1] > 0.7
    assert all(np.array_equal(scan_slice(plane, scan), scan_slice(plane, scan)) for scan in scans[:3])
    assert {scan.thickness_mm for scan in scans} == {1, 3, 5}
