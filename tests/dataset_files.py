"""A small data set in MedCLIPSeg's layout: bright discs on grey noise, one a row, and empty images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from workbook import write_prompts

SIDE = (40, 56)
VARIANTS = ("original", "contradictory", "missing_location", "overdescriptive", "underdescriptive")


def draw_disc(seed: int, *, radius: float) -> tuple[Pillow.Image, Pillow.Image]:
    """An image of SIDE with a bright disc somewhere, and its mask of 0 and 255; radius 0: no disc."""
    chance = np.random.default_rng(seed)
    height, width = SIDE
    y, x = np.ogrid[:height, :width]
    at = chance.uniform(0.3, 0.7, 2) * SIDE
    inside = (y - at[0]) ** 2 + (x - at[1]) ** 2 < radius**2
    grey = chance.normal(90, 12, SIDE) + 100 * inside
    image = Pillow.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    return image, Pillow.fromarray(np.where(inside, 255, 0).astype(np.uint8))


def write_pair(folder: Path, name: str, *, seed: int, radius: float = 9, mask: str | None = None) -> list[str]:
    """Save an image and its mask under `folder`; returns its row of the sheet."""
    for what, picture, title in zip(
        ("img", "label"), draw_disc(seed, radius=radius), (name, mask or name), strict=True
    ):
        (folder / what).mkdir(parents=True, exist_ok=True)
        picture.save(folder / what / title)
    prompt = "One round tumor at the left.\n" if radius else "No tumor.\n"
    return [name, prompt, mask or name]


def write_sheets(root: Path, sheets: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Save sheets (name without .xlsx -> rows) into the data set's Prompts_Folder."""
    for name, rows in sheets.items():
        write_prompts(root / "Prompts_Folder" / f"{name}.xlsx", rows)


def write_dataset(root: Path, *, first_seed: int = 0, train: int = 8, val: int = 2, test: int = 3) -> Path:
    """A whole data set: shares of 10, 25, 50 %, five prompt variants; the last image of each split is empty."""
    rows: dict[str, list[list[str]]] = {}
    seed = first_seed
    for split, count in (("Train", train), ("Val", val), ("Test", test)):
        rows[split] = []
        for number in range(count):
            radius = 0 if number == count - 1 else 8 + number % 3
            name = f"{split.lower()} {number}.png"
            rows[split].append(write_pair(root / f"{split}_Folder", name, seed=seed, radius=radius))
            seed += 1
    sheets = {"Train_text": rows["Train"], "Val_text": rows["Val"]}
    for percent in (10, 25, 50):
        sheets[f"Train_text_{percent}"] = rows["Train"][: max(1, train * percent // 100)]
        sheets[f"Val_text_{percent}"] = rows["Val"][:1]
    for variant in VARIANTS:
        prompts = {"original": None, "contradictory": "No tumor, yet one tumor."}.get(variant, "Tumor seen.")
        sheets[f"Test_text_{variant}"] = [[row[0], prompts or row[1], row[2]] for row in rows["Test"]]
    write_sheets(root, sheets)
    return root
