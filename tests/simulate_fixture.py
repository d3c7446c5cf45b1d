"""Small labelled folders and plans for tests of simulations."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
from dataset_files import draw_disc
from PIL import Image as Pillow

from maskloop_learner.evaluate.cells import to_json, write_atomically
from maskloop_learner.select.ground import Ground, part, survey
from maskloop_learner.select.labelled import Subject, read_labelled
from maskloop_learner.select.oracle import Oracle
from maskloop_learner.select.plan import Plan

LEARNING = {
    "backbone": "nano",
    "steps": 2,
    "batch": 2,
    "augmentation": "general",
    "patience": 0,
    "precision": "fp32",
}
PREDICTING = {"samples": 1, "method": "mean-value", "threshold": 0.5, "min_speck_area": 0, "max_hole_area": 0}


def write_discs(root: Path, count: int, *, empty: int = 0) -> tuple[Path, Path]:
    """Folders of `count` images with one disc each, the first `empty` ones without: p0_0.png, p0_1.png, p1_2.png ..."""
    images, masks = root / "images", root / "masks"
    images.mkdir(parents=True)
    masks.mkdir()
    for number in range(count):
        image, mask = draw_disc(number, radius=0 if number < empty else 7 + number % 3)
        # Discs on one grey are nearly one picture: stripes of its own make each another.
        stripes = np.random.default_rng(number).integers(0, 100, (4, 5, 1), np.uint8)
        ground = Pillow.fromarray(stripes[..., 0]).resize(image.size, Pillow.Resampling.BILINEAR)
        pixels = np.asarray(image).astype(int) + np.asarray(ground)[..., None]
        name = f"p{number // 2}_{number}.png"
        Pillow.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(images / name)
        mask.save(masks / name)
    return images, masks


def make_plan(root: Path, **changes: Any) -> Plan:
    """12 images, 4 of them tests; one seed, two rounds of two labels after two first ones."""
    if not (root / "images").exists():
        write_discs(root, 12)
    found = read_labelled(root / "images", root / "masks", prompts={"disc": "bright disc"})
    looks, _ = survey(found.subjects)
    given: dict[str, Any] = {
        "folder": root / "out",
        "subjects": found.subjects,
        "ground": part(found.subjects, looks, test_share=1 / 3),
        "prompts": found.prompts,
        "strategies": ("random", "uncertainty"),
        "seeds": 1,
        "rounds": 2,
        "batch": 2,
        "first": 2,
        "random_share": 0.1,
        "oracle": Oracle.parse("perfect"),
        "learning": LEARNING,
        "predicting": PREDICTING,
        "device": "cpu",
        "bases": root / "backbones",
    }
    return Plan(**{**given, **changes})


def imagine_plan(folder: Path, *, pool: int = 40, test: int = 20, **changes: Any) -> Plan:
    """A plan on images that are not there: for what comes after the rounds."""
    names = [f"{number:03}.png" for number in range(pool + test)]
    for name in names:
        (folder / "files").mkdir(exist_ok=True)
        (folder / "files" / name).touch()
    subjects = tuple(
        Subject(
            name=name,
            image=folder / "files" / name,
            masks={"disc": folder / "files" / name},
            prompts={"disc": "bright disc"},
        )
        for name in names
    )
    ground = Ground(test=tuple(range(pool, pool + test)), pool=tuple(range(pool)), groups=(-1,) * len(names), looks=())
    given = {"subjects": subjects, "ground": ground, "rounds": 2, "batch": 4, "first": 4, **changes}
    return Plan(
        **{
            "folder": folder,
            "prompts": {"disc": "bright disc"},
            "strategies": ("random", "uncertainty"),
            "seeds": 3,
            "random_share": 0.1,
            "oracle": Oracle.parse("perfect"),
            "learning": LEARNING,
            "predicting": PREDICTING,
            "device": "cpu",
            "bases": folder,
            **given,
        }
    )


def write_records(plan: Plan, dice: dict[tuple[str, int], list[float]]) -> None:
    """Records as rounds would have left them. dice: (strategy, seed) -> mean Dice of each round, 0..1."""
    names = [plan.subjects[place].name for place in plan.ground.test]
    quality = {"images": 3, "spearman": 0.5, "auroc": 0.9, "aurc": 0.3, "e_aurc": 0.1}
    for step in plan.steps():
        strategy = step.strategy or plan.strategies[0]
        mean = dice[strategy, step.seed][step.number]
        pick: dict[str, Any] = {
            "name": "x.png",
            "slot": "random",
            "score": None,
            "reason": "",
            "figures": {},
            "pixels": 9,
            "parts": 1,
        }
        record = {
            "seed": step.seed,
            "strategy": step.strategy,
            "round": step.number,
            "labels": plan.budgets[step.number],
            # Images differ from each other, and all strategies find the same ones hard.
            "test": {name: mean + 0.001 * (at - (len(names) - 1) / 2) for at, name in enumerate(names)},
            "quality": quality if step.number < plan.rounds else {**quality, "spearman": None},
            "picks": {name: [pick] * plan.batch for name in ([step.strategy] if step.strategy else plan.strategies)},
            "seconds": 1.0,
        }
        write_atomically(plan.record(step), to_json(record).encode())


def die(parent: int) -> None:
    """The first and last thing that a process of a grid does."""
    os.kill(os.getpid(), signal.SIGKILL)
