"""About 60 real T1 MRI slices with white and grey matter masks, out of the MNI ICBM152 volumes in nilearn.

It is ONE brain: a symmetric average of 152 people with the skull taken off. All slices share its anatomy, so
a Dice on the test slices shows that the loop learns, not how a model does on other people. Kept apart as far
as one brain allows: test slices come from slabs of their own, at least 6 mm from any other slice of the same
orientation, and sagittal slices from the left half only, since the right half mirrors it. Slices of different
orientations do cross each other, in lines. Each slice gets a scanner's variation of its own (contrast,
thickness, resolution, Rician noise, coil shading), from hardly visible to hard.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskloop_backend.demo.scanner import Scan, draw_scans, scan_slice
from maskloop_learner.pool.masks import encode_mask

Pixel = TypeVar("Pixel", bound=np.generic)
Volume = NDArray[np.float32]
"""197 x 233 x 189 voxels of 1 mm, growing to the right, front and top."""

PROMPTS = {
    "White matter": "white matter in a T1-weighted brain MRI",
    "Grey matter": "grey matter in a T1-weighted brain MRI",
}
LABELLED, SEEDS, EASY = "axial", 8, 0.3
"""What is labelled from the start: the upper axial slices, from a good scanner. A group's first labels often come
from one protocol; the rest is more varied, so that the model has something to learn from being corrected."""
_RECIPE = 2
"""Part of the manifest: raise it when the same seed would give other slices."""


class DemoError(RuntimeError):
    """The demo slices cannot be made; the message says what to do."""


class Slab(NamedTuple):
    """slices cut evenly over the voxel indices first..last of an axis, all for testing or all for training."""

    test: bool
    first: int
    last: int
    slices: int


@dataclass(frozen=True)
class Orientation:
    """letter and number of the axis that the slices are across."""

    letter: str
    axis: int
    slabs: tuple[Slab, ...]


ORIENTATIONS = {
    "axial": Orientation(
        "z",
        2,
        (
            Slab(False, 36, 54, 5),
            Slab(True, 60, 69, 4),
            Slab(False, 75, 99, 5),
            Slab(True, 105, 114, 4),
            Slab(False, 120, 138, 5),
        ),
    ),
    "coronal": Orientation(
        "y",
        1,
        (
            Slab(False, 46, 79, 5),
            Slab(True, 85, 94, 4),
            Slab(False, 100, 135, 5),
            Slab(True, 141, 147, 3),
            Slab(False, 153, 190, 5),
        ),
    ),
    "sagittal": Orientation("x", 0, (Slab(False, 42, 58, 5), Slab(True, 64, 76, 5), Slab(False, 82, 96, 5))),
}


@dataclass(frozen=True)
class DemoSet:
    """A folder of demo slices: images/NAME and truth/LABEL/NAME, NAME such as axial-z072.png."""

    root: Path
    prompts: dict[str, str]
    """Label -> prompt."""
    splits: dict[str, list[str]]
    """seed: labelled from the start; test: frozen for testing; pool: the rest. Names, sorted."""
    slices: dict[str, dict[str, Any]]
    """Name -> orientation, slab, index, split and the scanner's variation."""

    def image(self, name: str) -> Path:
        """The 8-bit grey PNG of a slice."""
        return self.root / "images" / name

    def truth(self, label: str, name: str) -> Path:
        """The true mask of a slice, a 0/255 PNG of the same size."""
        return self.root / "truth" / label / name


def make_demo_slices(out: Path, *, seed: int = 0) -> DemoSet:
    """Write images/, truth/ and manifest.json below out; a complete folder is left alone. Needs no network.

    The same seed gives the same pixels. Raises DemoError when nilearn is missing or out holds another seed.
    """
    found = _read_complete(out, seed)
    if found is not None:
        return found
    t1, grey, white = _load_volumes()
    tissue = np.argmax(np.stack([1 - white - grey, white, grey]), axis=0)  # 0 neither, 1 white, 2 grey
    rng = np.random.default_rng(seed)
    places = _choose_places(rng)
    for folder in ("images", *(f"truth/{label}" for label in PROMPTS)):
        (out / folder).mkdir(parents=True, exist_ok=True)
    splits: dict[str, list[str]] = {"seed": [], "test": [], "pool": []}
    for name, place in places.items():
        splits[place["split"]].append(name)
    slices: dict[str, dict[str, Any]] = {}
    for names in splits.values():
        hardest = EASY if names is splits["seed"] else 1.0
        for name, scan in zip(names, draw_scans(len(names), rng, hardest=hardest), strict=True):
            place = places[name]
            axis, index = ORIENTATIONS[place["orientation"]].axis, place["index"]
            _write_image(out / "images" / name, t1, axis, index, scan)
            for number, label in enumerate(PROMPTS, start=1):
                mask = _upright(np.take(tissue == number, index, axis=axis))
                (out / "truth" / label / name).write_bytes(encode_mask(mask))
            slices[name] = {**place, "variation": asdict(scan)}
    manifest = {"recipe": _RECIPE, "seed": seed, "prompts": PROMPTS, "splits": splits, "slices": slices}
    partial = out / "manifest.json.part"  # the manifest comes last: with it the folder counts as complete
    partial.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, out / "manifest.json")
    return DemoSet(out, PROMPTS, splits, slices)


def _read_complete(out: Path, seed: int) -> DemoSet | None:
    """The set in a folder, None when there is none or a file is missing."""
    try:
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        found = DemoSet(out, manifest["prompts"], manifest["splits"], manifest["slices"])
        made_with = manifest["recipe"], manifest["seed"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None
    files = [found.image(name) for name in found.slices]
    files += [found.truth(label, name) for name in found.slices for label in found.prompts]
    if not all(file.is_file() for file in files):
        return None
    if made_with != (_RECIPE, seed):
        raise DemoError(
            f"{out} holds demo slices of recipe {made_with[0]}, seed {made_with[1]}, not of recipe {_RECIPE}, "
            f"seed {seed}; delete that folder or choose another"
        )
    return found


def _load_volumes() -> tuple[Volume, Volume, Volume]:
    """T1, grey and white matter of the template, each 0..1."""
    try:
        from nilearn import datasets
    except ImportError as error:
        raise DemoError(
            f"the demo's MRI volumes come with nilearn, which cannot be imported ({error}); "
            "install it: pip install 'maskloop[demo]'"
        ) from error
    t1, grey, white = (
        np.asarray(load(resolution=1).dataobj, dtype=np.float32)
        for load in (
            datasets.load_mni152_template,
            datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template,
        )
    )
    return t1, grey, white


def _choose_places(rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Name -> orientation, slab, index and split of every slice, by orientation and index."""
    places: dict[str, dict[str, Any]] = {}
    for name_of, orientation in ORIENTATIONS.items():
        training: list[str] = []
        for number, slab in enumerate(orientation.slabs):
            for index in np.linspace(slab.first, slab.last, slab.slices).round().astype(int).tolist():
                name = f"{name_of}-{orientation.letter}{index:03d}.png"
                places[name] = {
                    "orientation": name_of,
                    "slab": f"{name_of}-{number}",
                    "index": index,
                    "split": "test" if slab.test else "pool",
                }
                if not slab.test:
                    training.append(name)
        if name_of == LABELLED:
            for name in training[-SEEDS:]:
                places[name]["split"] = "seed"
    return places


def _write_image(path: Path, t1: Volume, axis: int, index: int, scan: Scan) -> None:
    """Scan one slice, with its neighbours as far as it is thick, and save it as PNG."""
    reach = scan.thickness_mm // 2
    thick = np.take(t1, range(index - reach, index + reach + 1), axis=axis).mean(axis=axis)
    Image.fromarray(_upright(scan_slice(thick, scan))).save(path, "PNG")


def _upright(plane: NDArray[Pixel]) -> NDArray[Pixel]:
    """A plane as radiologists look at it: forehead or head top up, the patient's right on the left."""
    return np.ascontiguousarray(plane.T[::-1, ::-1])
