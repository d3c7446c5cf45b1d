"""A folder of images, with or without masks, as the demo's content."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from maskloop_backend.demo.slices import DemoError, make_demo_slices

SUFFIXES = {".png", ".jpg", ".jpeg"}
SEEDS, TESTS = 8, 20


@dataclass(frozen=True)
class DemoContent:
    """What the demo shows. Masks are at masks[label] / file name; `seeds` come labelled, `tests` stay out."""

    key: str
    title: str
    images: Path
    prompts: dict[str, str]
    names: tuple[str, ...]
    seeds: tuple[str, ...]
    tests: tuple[str, ...]
    masks: dict[str, dict[str, Path]]


def brain_content(folder: Path) -> DemoContent:
    """The MRI slices that come with Maskloop, made on first use."""
    made = make_demo_slices(folder)
    seeds = tuple(made.splits["seed"])
    return DemoContent(
        key="brain",
        title="Brain MRI: white and grey matter (demo)",
        images=folder / "images",
        prompts=dict(made.prompts),
        names=(*seeds, *made.splits["pool"]),
        seeds=seeds,
        tests=tuple(made.splits["test"]),
        masks={label: {name: made.truth(label, name) for name in seeds} for label in made.prompts},
    )


def own_content(images: Path, masks: Path | None, prompts: dict[str, str]) -> DemoContent:
    """A user's folder. With masks (one folder per label, or one folder for one label) some images come labelled.

    A mask has its image's name, also with `_mask` and with another suffix. Raises DemoError naming what is missing.
    """
    names = sorted(path.name for path in images.iterdir() if path.suffix.lower() in SUFFIXES)
    if not names:
        raise DemoError(f"there is no PNG or JPEG image in {images}")
    found = {label: _find_masks(masks, label, names, alone=len(prompts) == 1) for label in prompts} if masks else {}
    labelled = [name for name in names if found and all(name in files for files in found.values())]
    if masks and not labelled:
        raise DemoError(f"no image of {images} has a mask for every label ({', '.join(prompts)}) in {masks}")
    # By digest of the name, so that neighbours in a sequence are not the chosen ones.
    labelled.sort(key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    seeds = labelled[: min(SEEDS, max(2, len(labelled) // 3))]
    tests = labelled[len(seeds) : len(seeds) + min(TESTS, len(labelled) // 3)]
    return DemoContent(
        key=hashlib.sha256(str(images.resolve()).encode()).hexdigest()[:12],
        title=f"{images.resolve().name} (demo)"[:50],
        images=images,
        prompts=prompts,
        names=tuple(name for name in names if name not in tests),
        seeds=tuple(seeds),
        tests=tuple(tests),
        masks=found,
    )


def _find_masks(masks: Path, label: str, names: list[str], *, alone: bool) -> dict[str, Path]:
    folder = masks / label
    if not folder.is_dir():
        if not alone:
            raise DemoError(f"the folder {folder} is missing: masks are looked for in one folder per label")
        folder = masks
    by_stem = {path.stem.removesuffix("_mask"): path for path in sorted(folder.iterdir()) if path.is_file()}
    return {name: by_stem[Path(name).stem] for name in names if Path(name).stem in by_stem}
